"""The pages as people see them, in headless Chromium."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

import slcluster as slc
from slcluster.cluster import connect, live_map_link
from slcluster.store import open_store, write_array_store
from tests.conftest import OBLIQUE
from tests.test_durable import stop_at
from tests.watch.conftest import Serve, Server
from tests.watch.gated import Gated
from tests.witness import noise_dataset

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no browser: install Chromium and its driver (Debian: chromium chromium-driver)",
)

N_HALF = 5


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("headless=new", "disable-gpu", "disable-dev-shm-usage", "window-size=1200,900"):
        options.add_argument(f"--{argument}")
    # It asks nobody but us.
    for argument in (
        "disable-component-update",
        "no-first-run",
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(f"--{argument}")
    if os.geteuid() == 0:  # as root it has no sandbox to lock itself into
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """The browser, whose console stays empty."""
    yield chromium
    assert chromium.get_log("browser") == []
    chromium.get("about:blank")


def until(what: Callable[[], Any], within_s: float = 300.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < deadline, "the page did not come to show it"
        time.sleep(0.1)
    return found


def text(browser: Any, name: str) -> str:
    return str(browser.find_element("id", name).text)


def picture(browser: Any, plane: int = 2) -> str:
    """What a plane shows, as an address of its pixels."""
    return str(
        browser.execute_script("return document.querySelectorAll('canvas')[arguments[0]].toDataURL()", plane)
    )


def shows(browser: Any, state: str, blocks: str) -> Callable[[], bool]:
    return lambda: (text(browser, "state"), text(browser, "blocks")) == (state, blocks)


def test_a_run_fills_in(browser: Any, tmp_path: Path) -> None:
    """A run that was interrupted goes on, and the page shows it: blocks, pixels, workers, a slider."""
    ds = open_store(write_array_store(noise_dataset(affine=OBLIQUE), tmp_path / "subject.zarr"))
    gate, out = tmp_path / "gate", tmp_path / "out.zarr"
    options: dict[str, Any] = {
        "estimator": Gated(str(gate)),
        "radius_mm": 5.5,
        "block_centers": 5,
        "out": out,
    }
    gate.touch()
    with dask.config.set(scheduler="sync"), pytest.raises(KeyboardInterrupt):
        slc.searchlight(ds, progress=stop_at(N_HALF), **options)
    n_blocks = slc.status(out).n_blocks
    gate.unlink()
    with connect("local", workers=2) as client:
        running = threading.Thread(target=slc.searchlight, args=(ds,), kwargs={**options, "client": client})
        running.start()
        try:
            _watch(browser, live_map_link(client), gate, n_blocks)
        finally:
            gate.touch()
            running.join()
        _look_around(browser, slc.open_result(out))


def _watch(browser: Any, address: str, gate: Path, n_blocks: int) -> None:
    until(lambda: Server(address).json("results.json")["results"])
    browser.get(address)
    half = f"{N_HALF} of {n_blocks} blocks ({100 * N_HALF // n_blocks} %)"
    until(shows(browser, "Running", half))
    browser.execute_script("window.sameload = true")
    before = [picture(browser, plane) for plane in range(3)]
    rows = browser.find_elements("css selector", "#workers tr")
    assert [row.text.split()[0] for row in rows] == ["process", "0", "1"]  # of before, and those connected
    assert rows[0].find_elements("tag name", "td")[1].text == str(N_HALF)
    assert "(gone)" in rows[0].text
    assert "Workers connected\n2" in text(browser, "facts")
    gate.touch()
    until(shows(browser, "Finished", f"{n_blocks} of {n_blocks} blocks (100 %)"))
    assert browser.execute_script("return window.sameload")
    assert any(picture(browser, plane) != was for plane, was in enumerate(before))
    numbers = [
        int(row.find_elements("tag name", "td")[1].text)
        for row in browser.find_elements("css selector", "#workers tr")
    ]
    assert sum(numbers) == n_blocks
    assert len(numbers) == 3


def _look_around(browser: Any, result: Any) -> None:
    """Sliders by keyboard, and values under the pointer, against the result itself."""
    from selenium.webdriver import ActionChains, Keys

    slider = browser.find_element("id", "slice-axial")
    was, at = picture(browser), slider.get_attribute("value")
    slider.send_keys(Keys.HOME if int(at) else Keys.END)
    assert slider.get_attribute("value") != at
    assert picture(browser) != was
    assert slider.get_attribute("aria-valuetext").startswith("z ")
    axial = browser.find_elements("css selector", "#planes canvas")[2]
    seen = []
    for part in (-0.3, 0.3):
        ActionChains(browser).move_to_element_with_offset(axial, int(part * axial.size["width"]), 0).perform()
        seen.append(_readout(text(browser, "readout")))
    (left, left_mm, left_value), (right, right_mm, right_value) = seen
    assert left_mm[0] < right_mm[0]  # left is on the left
    for voxel, mm, value in ((left, left_mm, left_value), (right, right_mm, right_value)):
        np.testing.assert_allclose(mm, (OBLIQUE @ [*voxel, 1])[:3], atol=0.051)
        expected = float(result["score"].sel(dict(zip("xyz", voxel, strict=True))))
        assert value == ("no center" if np.isnan(expected) else f"accuracy {expected:.3f}")
    assert {left_value, right_value} != {"no center"}


def _readout(line: str) -> tuple[list[int], list[float], str]:
    voxel, mm, value = line.replace("\u2212", "-").removeprefix("Voxel ").split(" \u00b7 ")
    return [int(x) for x in voxel.split(",")], [float(x) for x in re.findall(r"-?[0-9.]+", mm)], value


def test_watching_a_store_alone(browser: Any, serve: Serve, tmp_path: Path) -> None:
    """A finished result of several metrics, with a name that is no HTML, on a phone."""
    name = "<img src=x onerror=alert(1)>"
    ds = noise_dataset(affine=OBLIQUE).assign_attrs(subject=name)
    store = open_store(write_array_store(ds, tmp_path / "subject.zarr"))
    scoring = ["accuracy", "f1_macro"]
    slc.searchlight(store, out=tmp_path / "out.zarr", radius_mm=5.5, estimator="gnb", scoring=scoring)
    browser.set_window_size(500, 800)
    browser.get(serve(tmp_path / "out.zarr").address)
    until(lambda: text(browser, "state") == "Finished")
    assert text(browser, "subject") == name
    assert browser.execute_script("return document.images.length") == 0
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True},
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    was = picture(browser)
    assert text(browser, "mapname").startswith("accuracy chance 0.500")
    browser.find_element("css selector", "#map option[value='1']").click()
    until(lambda: "f1_macro" in text(browser, "readout"))
    assert picture(browser) != was
    assert text(browser, "mapname").strip() == "f1_macro"
    was = picture(browser)
    browser.find_element("css selector", "#colours option[value='even']").click()
    assert picture(browser) != was
