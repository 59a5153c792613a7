"""How the speed table is printed."""

from __future__ import annotations

from typing import Any

__all__ = ["report"]


def report(found: dict[str, Any]) -> str:
    """One row for people."""
    figure = "{median:.3g} ({min:.3g} to {max:.3g})".format(**found["figure"])
    least = "at most" if found["unit"] == "s" else "at least"
    text = f"{found['row']:<22} {least} {found['target']:>4g} {found['unit']}   {figure:<26} {found['state']}"
    return f"{text}\n    {remark(found)}"


def remark(found: dict[str, Any]) -> str:
    """What stands below a row."""
    if "nilearn_center_ms" in found:
        run = found["runs"][-1]["slcluster"]
        n = run["n_centers"]
        parts = [
            f"{n:,} of {run['n_all']:,} centers: nilearn {found['nilearn_center_ms']:.3g} ms, ours {found['center_ms']:.3g} ms ({run['engine']})",
            f"{run['n_in_blocks']:,} in blocks {found['ratio_in_blocks']['median']:.3g}x, the same centers "
            f"{found['ratio_same_centers']['median']:.3g}x",
            f"{run['mean_voxels']:.1f} voxels",
            "scores equal"
            if not found["n_differing"]
            else f"scores of {found['n_differing']} differ, at most by {found['largest_difference']:.2g}",
        ]
        if bounds := run.get("bounds"):
            parts.append(
                f"{bounds['gflops']:.2g} GFLOP/s, {bounds['of_peak']:.1%} of a product's {bounds['peak_gflops']:.3g}; "
                f"{bounds['of_bandwidth']:.1%} of memory's {bounds['bandwidth_gb']:.2g} GB/s; bound: {bounds['bound']}"
            )
        return "\n    ".join(parts)
    if "stages_s" in found:
        whole = sum(found["stages_s"].values())
        shares = ", ".join(f"{name} {s:.2g} s ({s / whole:.0%})" for name, s in found["stages_s"].items())
        return f"{found['n_centers']:,} centers, CPU {found['cpu_s']:.3g} s\n    {shares}"
    if "again_s" in found:
        return f"CPU {found['cpu_s']:.3g} s a process; the second time {found['again_s']:.2g} s"
    run = found["runs"][-1]
    if "alone_s" in run:
        return f"{found['n_centers']:,} centers: processes {run['alone_s']:.3g} s, workers {run['workers_s']:.3g} s"
    ours, theirs = run["slcluster"], run["nilearn"]
    return (
        f"{ours['n_centers']:,} centers: nilearn {theirs['cpu_s']:.3g} s, ours {ours['cpu_s']:.3g} s, a whole plan "
        f"{ours['whole_plan_cpu_s']:.2g} s; spheres {'equal' if found['is_equal'] else 'DIFFER'}"
    )
