// The live map: asks the server what is new, keeps one map in memory, draws three planes of it.
"use strict";

const EVERY_MS = { running: 1000, interrupted: 3000, finished: 10000, list: 5000 };
const MINUS = "\u2212";
const SIDES = [["L", "R"], ["P", "A"], ["I", "S"]];
const VIEWS = [
  { name: "Sagittal", through: 0, across: 1, up: 2 },
  { name: "Coronal", through: 1, across: 0, up: 2 },
  { name: "Axial", through: 2, across: 0, up: 1 },
];

const at = (id) => document.getElementById(id);
let page = null; // what is shown now; a new one for every result, so that late answers to the old one are dropped

// ---------------------------------------------------------------- words and numbers

function number(value, digits = 3) {
  if (!Number.isFinite(value)) return "none";
  const text = Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(2) : value.toFixed(digits);
  return text.replace("-", MINUS);
}

function duration(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

function rate(perSecond) {
  if (perSecond >= 1) return `${number(perSecond, perSecond < 10 ? 1 : 0)} blocks/s`;
  if (perSecond >= 1 / 60) return `${number(perSecond * 60, 1)} blocks/min`;
  return `${number(perSecond * 3600, 1)} blocks/h`;
}

const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text; // never HTML: names come from files
  if (className) made.className = className;
  return made;
}

function problem(text) {
  at("problem").hidden = !text;
  if (at("problem").textContent !== text) at("problem").textContent = text;
}

// ---------------------------------------------------------------- asking the server

class Refused extends Error {}

async function ask(path) {
  const answer = await fetch(path, { cache: "no-cache" });
  if (answer.ok) return answer;
  let text = `the server answers ${answer.status} ${answer.statusText}`;
  if ((answer.headers.get("Content-Type") || "").includes("json")) text = (await answer.json()).problem || text;
  const refused = new Refused(text);
  refused.status = answer.status;
  throw refused;
}

const askJson = async (path) => (await ask(path)).json();
const askBytes = async (path) => (await ask(path)).arrayBuffer();

// ---------------------------------------------------------------- colours

function hot(t) {
  return [Math.min(1, 0.04 + t / 0.365), clamp((t - 0.365) / 0.381), clamp((t - 0.746) / 0.254)];
}

// From dark violet to light yellow with equal steps of lightness: OKLCH to sRGB.
function even(t) {
  const l = 0.28 + 0.67 * t;
  const c = 0.12;
  const h = ((290 - 190 * t) * Math.PI) / 180;
  const [a, b] = [c * Math.cos(h), c * Math.sin(h)];
  const [p, q, r] = [l + 0.3963377774 * a + 0.2158037573 * b, l - 0.1055613458 * a - 0.0638541728 * b, l - 0.0894841775 * a - 1.291485548 * b].map((x) => x ** 3);
  const linear = [4.0767416621 * p - 3.3077115913 * q + 0.2309699292 * r, -1.2684380046 * p + 2.6097574011 * q - 0.3413193965 * r, -0.0041960863 * p - 0.7034186147 * q + 1.707614701 * r];
  return linear.map((x) => clamp(x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055));
}

const clamp = (x) => Math.max(0, Math.min(1, x));
const table = (colour) => Array.from({ length: 256 }, (_, i) => colour(i / 255).map((x) => Math.round(255 * x)));
const COLOURS = { hot: table(hot), even: table(even) };

// ---------------------------------------------------------------- one result

class Result {
  constructor(id, about, centers, mean) {
    this.id = id;
    this.about = about;
    this.path = `result/${id}`;
    const [nx, ny, nz] = about.shape;
    this.mean = mean.length ? mean : null;
    this.voxels = centers;
    this.centerAt = new Int32Array(nx * ny * nz).fill(-1);
    centers.forEach((voxel, center) => { this.centerAt[voxel] = center; });
    this.map = 0;
    this.cross = about.start.slice();
    this.forget(null);
  }

  forget(epoch) {
    this.epoch = epoch;
    this.version = 0;
    this.values = new Float32Array(this.about.n_centers).fill(NaN);
    this.isDone = new Uint8Array(Math.ceil(this.about.n_centers / this.about.block_centers));
    this.range = null;
  }

  choose(map) {
    this.map = map;
    this.forget(this.epoch);
  }

  // Take what the server sent about the map that is shown.
  take(buffer) {
    const n = new DataView(buffer).getUint32(0, true);
    const blocks = new Uint32Array(buffer, 4, n);
    const values = new Float32Array(buffer, 4 + 4 * n);
    const size = this.about.block_centers;
    let from = 0;
    for (const block of blocks) {
      const length = Math.min(size, this.about.n_centers - block * size);
      this.values.set(values.subarray(from, from + length), block * size);
      this.isDone[block] = 1;
      from += length;
    }
    this.version += n;
    this.range = null;
  }

  // Lowest and highest colour where nobody chose: from chance to the best, or nearly all values.
  limits() {
    if (this.range) return this.range;
    const found = this.values.filter(Number.isFinite).sort();
    const { chance } = this.about.maps[this.map];
    if (!found.length) return chance === null ? [0, 1] : [chance, 1];
    const quantile = (q) => found[Math.round(q * (found.length - 1))];
    const low = chance !== null ? chance : quantile(0.02);
    let high = chance !== null ? found[found.length - 1] : quantile(0.98);
    if (high <= low) high = low + Math.max(Math.abs(low), 1) * 0.1;
    const step = niceStep((high - low) / 8);
    this.range = [chance !== null ? low : Math.floor(low / step) * step, Math.ceil(high / step - 1e-6) * step];
    return this.range;
  }

  // Move the cross hair to the highest value so far; whether there is any.
  goToHighest() {
    const [nx, ny] = this.about.shape;
    let best = -1;
    this.values.forEach((value, center) => {
      if (Number.isFinite(value) && (best < 0 || value > this.values[best])) best = center;
    });
    if (best < 0) return false;
    const voxel = this.voxels[best];
    this.cross = [voxel % nx, Math.floor(voxel / nx) % ny, Math.floor(voxel / (nx * ny))];
    return true;
  }

  // What is known of a voxel, in words.
  describe(voxel) {
    const [nx, ny] = this.about.shape;
    const indices = voxel.map((index, axis) => this.about.voxels[axis][index]);
    const mm = this.mm(voxel).map((x) => number(x, 1)).join(", ");
    const center = this.centerAt[voxel[0] + nx * (voxel[1] + ny * voxel[2])];
    let value = "no center";
    if (center >= 0 && !this.isDone[Math.floor(center / this.about.block_centers)]) value = "not done yet";
    else if (center >= 0) value = `${this.about.maps[this.map].name} ${number(this.values[center])}`;
    return `Voxel ${indices.join(", ")} \u00b7 ${mm} mm \u00b7 ${value}`;
  }

  mm(voxel) {
    return this.about.affine.slice(0, 3).map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);
  }

  // Length in mm of one voxel along an axis of the grid.
  size(axis) {
    return Math.hypot(...this.about.affine.slice(0, 3).map((row) => row[axis]));
  }
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
}

// ---------------------------------------------------------------- one plane

class Plane {
  constructor(result, view, moved) {
    this.result = result;
    this.view = view;
    this.moved = moved;
    const axis = (world) => ({ axis: result.about.axes[world][0], isFlipped: result.about.axes[world][1] });
    [this.through, this.across, this.up] = [view.through, view.across, view.up].map(axis);
    const length = (a) => result.about.shape[a.axis];
    [this.width, this.height] = [length(this.across), length(this.up)];
    this.mmWidth = this.width * result.size(this.across.axis);
    this.mmHeight = this.height * result.size(this.up.axis);
    this.pixels = document.createElement("canvas");
    [this.pixels.width, this.pixels.height] = [this.width, this.height];
    this.build();
  }

  build() {
    this.figure = element("figure");
    this.canvas = element("canvas");
    this.canvas.setAttribute("role", "img");
    this.slider = element("input");
    Object.assign(this.slider, { type: "range", min: 0, max: this.result.about.shape[this.through.axis] - 1, step: 1 });
    this.slider.id = `slice-${this.view.name.toLowerCase()}`;
    this.slider.disabled = this.slider.max === "0";
    this.slider.setAttribute("aria-label", `${this.view.name} slice`);
    this.output = element("output");
    const caption = element("figcaption");
    caption.append(element("strong", this.view.name), this.output);
    this.figure.append(caption, this.canvas, this.slider);
    this.slider.addEventListener("input", () => {
      this.result.cross[this.through.axis] = this.flip(this.through, Number(this.slider.value));
      this.moved();
    });
    const point = (event) => this.voxelAt(event);
    const go = (event) => {
      const voxel = point(event);
      if (!voxel) return;
      this.result.cross = voxel;
      this.moved();
    };
    this.canvas.addEventListener("pointerdown", go);
    this.canvas.addEventListener("pointermove", (event) => (event.buttons ? go(event) : say(this.result, point(event))));
    this.canvas.addEventListener("pointerleave", () => say(this.result, null));
  }

  // Position along a screen axis to index along the grid's, and back.
  flip(a, position) {
    return a.isFlipped ? this.result.about.shape[a.axis] - 1 - position : position;
  }

  // Where the image lies within the canvas, in CSS pixels.
  box() {
    const { clientWidth: w, clientHeight: h } = this.canvas;
    const scale = Math.min(w / this.mmWidth, h / this.mmHeight);
    const [bw, bh] = [this.mmWidth * scale, this.mmHeight * scale];
    return { x: (w - bw) / 2, y: (h - bh) / 2, w: bw, h: bh };
  }

  voxelAt(event) {
    const box = this.box();
    const rect = this.canvas.getBoundingClientRect();
    const i = Math.floor(((event.clientX - rect.left - box.x) / box.w) * this.width);
    const j = Math.floor(((event.clientY - rect.top - box.y) / box.h) * this.height);
    if (i < 0 || j < 0 || i >= this.width || j >= this.height) return null;
    const voxel = this.result.cross.slice();
    voxel[this.across.axis] = this.flip(this.across, i);
    voxel[this.up.axis] = this.flip(this.up, this.height - 1 - j);
    return voxel;
  }

  draw(scale) {
    const { result } = this;
    const [nx, ny] = result.about.shape;
    const steps = [1, nx, nx * ny];
    const image = new ImageData(this.width, this.height);
    const start = result.cross[this.through.axis] * steps[this.through.axis];
    for (let j = 0; j < this.height; j += 1) {
      const row = start + this.flip(this.up, this.height - 1 - j) * steps[this.up.axis];
      for (let i = 0; i < this.width; i += 1) {
        const voxel = row + this.flip(this.across, i) * steps[this.across.axis];
        const center = result.centerAt[voxel];
        const colour = center < 0 ? null : scale.colour(result.values[center]);
        const gray = result.mean ? result.mean[voxel] : center < 0 ? 0 : 70;
        image.data.set(colour || [gray, gray, gray], 4 * (j * this.width + i));
        image.data[4 * (j * this.width + i) + 3] = 255;
      }
    }
    this.pixels.getContext("2d").putImageData(image, 0, 0);
    this.paint();
    const index = result.cross[this.through.axis];
    this.slider.value = this.flip(this.through, index);
    const mm = number(result.mm(result.cross)[this.view.through], 1);
    const name = "xyz"[this.through.axis];
    this.output.textContent = `${name} ${result.about.voxels[this.through.axis][index]} \u00b7 ${mm} mm`;
    this.slider.setAttribute("aria-valuetext", this.output.textContent);
    this.canvas.setAttribute("aria-label", `${this.view.name} slice at ${this.output.textContent}`);
  }

  // The pixels at screen size, a cross hair, and which side is which.
  paint() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    [this.canvas.width, this.canvas.height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.imageSmoothingEnabled = false;
    const box = this.box();
    context.drawImage(this.pixels, box.x, box.y, box.w, box.h);
    const place = (a, n) => (this.flip(a, this.result.cross[a.axis]) + 0.5) / n;
    const x = box.x + place(this.across, this.width) * box.w;
    const y = box.y + (1 - place(this.up, this.height)) * box.h;
    context.strokeStyle = "rgba(120, 200, 255, 0.55)";
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, clientHeight);
    context.moveTo(0, y);
    context.lineTo(clientWidth, y);
    context.stroke();
    this.letters(context, clientWidth, clientHeight);
  }

  letters(context, width, height) {
    const [left, right] = SIDES[this.view.across];
    const [bottom, top] = SIDES[this.view.up];
    context.font = "600 12px system-ui, sans-serif";
    context.fillStyle = "#ffffff";
    context.strokeStyle = "#000000";
    context.lineWidth = 3;
    const places = [[left, 9, height / 2], [right, width - 9, height / 2], [top, width / 2, 10], [bottom, width / 2, height - 10]];
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const [letter, x, y] of places) {
      context.strokeText(letter, x, y);
      context.fillText(letter, x, y);
    }
  }
}

function say(result, voxel) {
  at("readout").textContent = result.describe(voxel || result.cross);
}

// ---------------------------------------------------------------- colour bar

class Scale {
  constructor(result) {
    const chosen = (id) => (at(id).value === "" ? NaN : Number(at(id).value));
    const [low, high] = result.limits();
    this.low = Number.isFinite(chosen("low")) ? chosen("low") : low;
    this.high = Number.isFinite(chosen("high")) ? chosen("high") : high;
    if (!(this.high > this.low)) this.high = this.low + 1e-6;
    at("low").placeholder = number(low);
    at("high").placeholder = number(high);
    this.chance = result.about.maps[result.map].chance;
    this.table = COLOURS[at("colours").value];
    this.hides = at("hide").checked;
  }

  colour(value) {
    if (!Number.isFinite(value) || (this.hides && value <= this.low)) return null;
    return this.table[Math.round(255 * clamp((value - this.low) / (this.high - this.low)))];
  }

  draw() {
    const canvas = at("scale");
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: w, clientHeight: h } = canvas;
    [canvas.width, canvas.height] = [Math.round(w * ratio), Math.round(h * ratio)];
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const [left, top, width, height] = [16, 8, w - 32, 16];
    for (let x = 0; x < width; x += 1) {
      context.fillStyle = `rgb(${this.table[Math.round((255 * x) / (width - 1))].join(", ")})`;
      context.fillRect(left + x, top, 1.5, height);
    }
    const ink = getComputedStyle(document.body).color;
    context.fillStyle = ink;
    context.strokeStyle = ink;
    context.strokeRect(left + 0.5, top + 0.5, width - 1, height - 1);
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "top";
    context.textAlign = "center";
    const place = (value) => left + (width * (value - this.low)) / (this.high - this.low);
    const step = niceStep((this.high - this.low) / (w < 260 ? 3 : 5));
    const digits = Math.max(0, Math.min(6, Math.ceil(-Math.log10(step) - 0.001)));
    for (let tick = Math.ceil(this.low / step - 1e-6) * step; tick <= this.high + step * 1e-6; tick += step) {
      context.fillRect(place(tick) - 0.5, top + height, 1, 4);
      context.fillText(number(tick, digits), place(tick), top + height + 6);
    }
    if (this.chance !== null && this.chance >= this.low && this.chance <= this.high) {
      const x = place(this.chance);
      context.beginPath();
      context.moveTo(x, top);
      context.lineTo(x - 4, 0);
      context.lineTo(x + 4, 0);
      context.fill();
    }
    canvas.setAttribute("aria-label", `Colours from ${number(this.low)} to ${number(this.high)}${this.chance === null ? "" : `, chance ${number(this.chance)}`}`);
  }
}

// ---------------------------------------------------------------- the page of one result

class Live {
  constructor(result, planes) {
    this.result = result;
    this.planes = planes;
  }

  draw() {
    const scale = new Scale(this.result);
    scale.draw();
    for (const plane of this.planes) plane.draw(scale);
    say(this.result, null);
  }

  lay() {
    const { maps, subject, estimator, engine, sphere, path } = this.result.about;
    at("subject").textContent = subject;
    document.title = `${subject} \u00b7 slcluster live map`;
    const size = [sphere.n_voxels && `${sphere.n_voxels} voxels`, sphere.radius_mm && `${sphere.radius_mm} mm`].filter(Boolean).join(", ");
    at("analysis").textContent = `${estimator} \u00b7 engine ${engine} \u00b7 spheres of ${size} \u00b7 ${path}`;
    at("planes").replaceChildren(...this.planes.map((plane) => plane.figure));
    this.proportion();
    at("map").replaceChildren(...maps.map(({ name }, k) => {
      const option = element("option", name);
      option.value = k;
      return option;
    }));
    at("map").value = this.result.map;
    at("choice").hidden = maps.length < 2;
    this.name();
  }

  // Boxes of one height and one scale in mm. A grid of one slice is a line from the side: its box is not.
  proportion() {
    const least = 0.4 * Math.max(...this.planes.map((plane) => Math.max(plane.mmWidth, plane.mmHeight)));
    const width = (plane) => Math.max(plane.mmWidth, least);
    const height = (planes) => Math.max(least, ...planes.map((plane) => plane.mmHeight));
    const columns = (planes) => planes.map((plane) => `minmax(0, ${width(plane).toFixed(1)}fr)`).join(" ");
    const pair = this.planes.slice(0, 2); // on a narrow page the third stands alone
    at("planes").style.setProperty("--columns", columns(this.planes));
    at("planes").style.setProperty("--narrow-columns", columns(pair));
    for (const plane of this.planes) {
      const together = pair.includes(plane) ? pair : [plane];
      plane.figure.style.setProperty("--ratio", String(width(plane) / height(this.planes)));
      plane.figure.style.setProperty("--narrow-ratio", String(width(plane) / height(together)));
    }
    this.planes[2].figure.classList.add("alone");
  }

  name() {
    const { name, chance } = this.result.about.maps[this.result.map];
    at("mapname").replaceChildren(name, element("span", chance === null ? "" : ` chance ${number(chance)} \u25be`, "quiet"));
  }

  show(state) {
    at("bar").max = state.n_blocks;
    at("bar").value = state.n_done;
    const word = state.is_behind ? "reading" : state.state;
    at("state").textContent = word[0].toUpperCase() + word.slice(1);
    const percent = Math.floor((100 * state.n_done) / state.n_blocks);
    at("blocks").textContent = `${state.n_done.toLocaleString("en")} of ${count(state.n_blocks, "block")} (${percent} %)`;
    at("time").textContent = state.seconds_left !== null && state.state === "running" ? `about ${duration(state.seconds_left)} left` : "";
    at("hint").hidden = state.state !== "interrupted" || state.is_behind;
    at("hint").textContent = `To go on: slcluster resume ${this.result.about.path}`;
    this.facts(state);
    this.failures(state);
    this.workers(state);
  }

  facts(state) {
    const { n_centers: all, block_centers: size } = this.result.about;
    const rows = [["Centers", `${all.toLocaleString("en")}, ${size.toLocaleString("en")} a block`]];
    if (!this.result.about.is_measure) rows.push(["Folds", String(this.result.about.n_folds)]);
    if (state.blocks_per_s) rows.push(["Rate", rate(state.blocks_per_s)]);
    if (state.seconds_left !== null && state.state === "running") rows.push(["Time left", `about ${duration(state.seconds_left)}`]);
    if (state.holder) rows.push(["Computed by", state.holder], ["For", duration(state.seconds_running)]);
    if (state.is_silent) rows.push(["No sign of life", `for ${duration(state.seconds_silent)}`]);
    if (state.connected) rows.push(["Workers connected", String(state.connected.length)]);
    if (state.n_failed) rows.push(["Failed blocks", String(state.n_failed)]);
    at("facts").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  }

  failures({ failures, n_failed: all }) {
    at("failed").hidden = !all;
    const more = all - failures.length;
    at("failures").replaceChildren(...failures.map(({ error }) => element("li", error)), ...(more ? [element("li", `and ${more} more`, "quiet")] : []));
  }

  workers(state) {
    const connected = state.connected && new Set(state.connected);
    const hosts = new Set(state.workers.map((row) => row.host));
    const rows = state.workers.map((row) => {
      const isGone = connected ? !connected.has(row.worker) : false;
      const made = element("tr", undefined, isGone && state.state === "running" ? "gone" : "");
      const name = hosts.size > 1 ? `${row.worker} on ${row.host}` : row.worker;
      const last = row.last === null ? "" : `${duration(Math.max(0, Date.now() / 1000 - row.last))} ago`;
      made.append(element("td", isGone && state.state === "running" ? `${name} (gone)` : name), element("td", row.n_done.toLocaleString("en")), element("td", last));
      return made;
    });
    const known = new Set(state.workers.map((row) => row.worker));
    for (const name of state.connected || []) {
      if (known.has(name)) continue;
      const made = element("tr");
      made.append(element("td", name), element("td", "0"), element("td", ""));
      rows.push(made);
    }
    at("workers").replaceChildren(...rows);
    const notes = [];
    if (state.n_unnoted) notes.push(`${count(state.n_unnoted, "block")} by workers that left no note.`);
    if (!state.connected && state.state === "running") notes.push("Read from the store alone: which workers are connected now is on the Dask dashboard.");
    at("unknown").textContent = notes.join(" ");
  }

  // Once: what is new since the last time. How long to wait until the next.
  async update() {
    const { result } = this;
    const state = await askJson(`${result.path}/state.json`);
    if (page !== this) return null;
    if (state.epoch !== result.epoch) result.forget(state.epoch);
    if (state.version > result.version) {
      const [map, since] = [result.map, result.version];
      const fresh = await askBytes(`${result.path}/values?map=${map}&since=${since}&epoch=${state.epoch}`);
      if (page !== this) return null;
      if (map === result.map && since === result.version) {
        result.take(fresh);
        this.draw();
      }
    }
    this.show(state);
    return state.is_behind ? 30 : EVERY_MS[state.state];
  }
}

async function openResult(id) {
  const about = await askJson(`result/${id}/about.json`);
  const [centers, mean] = await Promise.all(["centers", "mean"].map((what) => askBytes(`result/${id}/${what}`)));
  const result = new Result(id, about, new Uint32Array(centers), new Uint8Array(mean));
  let live = null;
  const planes = VIEWS.map((view) => new Plane(result, view, () => live.draw()));
  live = new Live(result, planes);
  return live;
}

// ---------------------------------------------------------------- the page of all results

class List {
  async update() {
    const { results } = await askJson("results.json");
    if (page !== this) return null;
    at("none").hidden = results.length > 0;
    at("results").replaceChildren(...results.map((line) => {
      const item = element("li");
      const link = element("a", line.subject);
      link.href = `#${line.id}`;
      item.append(line.problem ? element("span", line.subject) : link);
      if (line.problem) item.append(element("p", line.problem, "quiet"));
      else {
        const bar = element("progress");
        [bar.max, bar.value] = [line.n_blocks, line.n_done];
        bar.setAttribute("aria-label", `Blocks done of ${line.subject}`);
        item.append(bar, element("p", `${line.state}, ${line.n_done.toLocaleString("en")} of ${count(line.n_blocks, "block")}${line.n_failed ? `, ${line.n_failed} failed` : ""}`));
      }
      item.append(element("p", line.path, "quiet"));
      return item;
    }));
    return EVERY_MS.list;
  }
}

// ---------------------------------------------------------------- going round

let timer = 0;

async function turn() {
  clearTimeout(timer);
  const turning = page;
  if (!turning || document.hidden) return; // visibilitychange goes on
  let wait = 3000;
  try {
    wait = await turning.update();
    if (page !== turning) return;
    problem("");
  } catch (error) {
    if (page !== turning) return;
    if (error instanceof Refused && error.status === 409) wait = 100;
    else problem(error instanceof Refused ? error.message : "The server does not answer; trying again.");
  }
  clearTimeout(timer);
  timer = setTimeout(turn, wait);
}

async function route() {
  const token = {};
  page = token;
  clearTimeout(timer);
  problem("");
  try {
    const { results } = await askJson("results.json");
    if (page !== token) return;
    const wanted = location.hash.slice(1);
    const only = results.length === 1 && !results[0].problem ? results[0].id : null;
    const id = /^[0-9a-f]{32}$/.test(wanted) ? wanted : wanted === "all" ? null : only;
    const next = id ? await openResult(id) : new List();
    if (page !== token) return;
    at("all").hidden = !(id && results.length > 1);
    at("live").hidden = !id;
    at("list").hidden = Boolean(id);
    page = next;
    if (id) {
      next.lay();
      next.draw();
    } else {
      at("subject").textContent = "Live maps";
      at("analysis").textContent = "";
      document.title = "slcluster live maps";
    }
    turn();
  } catch (error) {
    if (page !== token) return;
    problem(error instanceof Refused ? error.message : "The server does not answer; trying again.");
    timer = setTimeout(route, 3000);
  }
}

function listen() {
  const redraw = () => page instanceof Live && page.draw();
  for (const id of ["low", "high"]) at(id).addEventListener("input", redraw);
  for (const id of ["colours", "hide"]) at(id).addEventListener("change", redraw);
  at("map").addEventListener("change", () => {
    if (!(page instanceof Live)) return;
    page.result.choose(Number(at("map").value));
    for (const id of ["low", "high"]) at(id).value = "";
    page.name();
    page.draw();
    turn();
  });
  at("highest").addEventListener("click", () => {
    if (page instanceof Live && page.result.goToHighest()) page.draw();
  });
  at("all").href = "#all";
  window.addEventListener("hashchange", route);
  window.addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.addEventListener("visibilitychange", () => document.hidden || turn());
}

listen();
route();
