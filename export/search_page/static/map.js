// The map: coast lines on a canvas, without tiles of other servers, and a button for each cluster of photos.

import { isAbort, json, thumbnailAddress } from "./api.js";
import { count, debounce, eachFrame, element, make, plural } from "./dom.js";
import { NEAREST, project, View } from "./projection.js";
import { filterParameters, state } from "./state.js";

const CLUSTER = 56; // pixels: closer clusters are shown as one
const STEP = 80; // pixels that an arrow key moves the map
const STEPS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60]; // degrees between lines

export class PhotoMap {
  // `onArea` is called with the visible area after each movement, `onPhoto` with the name of a single photo.
  constructor({ onArea, onPhoto, onError }) {
    Object.assign(this, { onArea, onPhoto, onError, view: new View(), land: null, clusters: [], fitted: false });
    this.box = element("map");
    this.canvas = this.box.querySelector("canvas");
    this.markers = element("map-markers");
    this.draw = eachFrame(() => this.paint());
    this.moved = debounce(() => { this.load(); this.onArea(this.view.area()); }, 250);
    new ResizeObserver(() => this.resize()).observe(this.box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.draw);
    this.listen();
    element("map-in").onclick = () => this.zoom(2);
    element("map-out").onclick = () => this.zoom(0.5);
    element("map-all").onclick = () => this.fitAll(true);
  }

  async show(area) {
    this.box.hidden = false;
    this.resize();
    this.land ??= json("static/land.json").then((land) => { this.outlines = outlines(land); this.draw(); }, this.onError);
    if (area) this.view.fit(area, 0);
    if (area || this.fitted) await this.load();
    else await this.fitAll(false);
    this.fitted = true;
  }

  hide() {
    this.box.hidden = true;
  }

  async fitAll(tell) {
    const summary = await this.ask(null);
    const { bounds } = summary?.positions ?? {};
    if (bounds) this.view.fit(bounds);
    await this.load();
    if (tell) this.onArea(this.view.area());
  }

  // The clusters of the visible area, under the current filter.
  async load() {
    if (this.box.hidden || !this.view.width) return;
    const summary = await this.ask(this.view.area());
    if (!summary) return;
    this.cells = summary.positions?.cells ?? [];
    this.merge();
    this.draw();
  }

  async ask(area) {
    this.request?.abort();
    const request = (this.request = new AbortController());
    const parameters = filterParameters({ ...state, area: null });
    if (area) parameters.set("area", area.join(","));
    parameters.set("columns", "0");
    parameters.set("cells", Math.max(4, Math.round(this.view.width / CLUSTER)));
    try {
      return await json("summary.json", { parameters, signal: request.signal });
    } catch (error) {
      if (!isAbort(error)) this.onError(error);
      return null;
    }
  }

  // Joins the cells whose markers would overlap, the largest first.
  merge() {
    this.clusters = [];
    for (const cell of [...this.cells].sort((one, other) => other.count - one.count)) {
      const [x, y] = project(cell.lat, cell.lon);
      const near = this.clusters.find((one) => Math.hypot(one.x - x, one.y - y) * this.view.size < CLUSTER);
      if (near) near.count += cell.count;
      else this.clusters.push({ x, y, count: cell.count, name: cell.name, lat: cell.lat, lon: cell.lon });
    }
    const focused = document.activeElement?.dataset?.cluster;
    this.markers.replaceChildren(...this.clusters.map((cluster) => this.marker(cluster)));
    if (focused) [...this.markers.children].find((one) => one.dataset.cluster === focused)?.focus();
  }

  marker(cluster) {
    const image = make("img", { alt: "", src: thumbnailAddress(cluster.name), decoding: "async", draggable: "false" });
    const text = cluster.count > 1 ? `${plural(cluster.count, "photo")} here: zoom in` : `One photo here: ${cluster.name}`;
    const number = cluster.count > 1 ? make("span", { class: "marker-count" }, count(cluster.count)) : null;
    const node = make("button", { type: "button", class: "marker", "aria-label": text, title: text, "data-cluster": cluster.name }, image, number);
    node.onclick = () => this.enter(cluster);
    node.cluster = cluster;
    return node;
  }

  enter(cluster) {
    if (cluster.count === 1) return this.onPhoto(cluster.name);
    [this.view.x, this.view.y] = [cluster.x, cluster.y];
    if (this.view.size >= NEAREST) this.onPhoto(cluster.name);
    return this.zoom(4);
  }

  zoom(factor, left, top) {
    this.view.zoom(factor, left, top);
    this.draw();
    this.moved();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.box;
    if (!width || !height) return;
    Object.assign(this.view, { width, height });
    this.draw();
  }

  listen() {
    const { canvas, view } = this;
    const pointers = new Map();
    let moved = false;
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
    };
    canvas.onpointermove = (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const others = [...pointers.values()].filter((one) => one.pointerId !== event.pointerId);
      if (others.length) {
        const [other] = others;
        const distance = (one) => Math.max(20, Math.hypot(one.offsetX - other.offsetX, one.offsetY - other.offsetY));
        view.zoom(distance(event) / distance(before), (event.offsetX + other.offsetX) / 2, (event.offsetY + other.offsetY) / 2);
      }
      const share = others.length ? 0.5 : 1;
      view.pan((event.offsetX - before.offsetX) * share, (event.offsetY - before.offsetY) * share);
      pointers.set(event.pointerId, event);
      moved = true;
      this.draw();
    };
    canvas.onpointerup = canvas.onpointercancel = (event) => {
      pointers.delete(event.pointerId);
      if (moved && !pointers.size) this.moved();
      moved = moved && pointers.size > 0;
    };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(2 ** (-event.deltaY / (event.deltaMode ? 8 : 240)), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.ondblclick = (event) => this.zoom(2, event.offsetX, event.offsetY);
    canvas.onkeydown = (event) => {
      const steps = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (steps[event.key]) view.pan(...steps[event.key]);
      else if (event.key === "+" || event.key === "=") view.zoom(2);
      else if (event.key === "-") view.zoom(0.5);
      else if (event.key === "0") return void this.fitAll(true);
      else return;
      event.preventDefault();
      event.stopPropagation();
      this.draw();
      this.moved();
    };
  }

  paint() {
    const { canvas, view } = this;
    const scale = devicePixelRatio;
    const [wide, tall] = [Math.round(view.width * scale), Math.round(view.height * scale)];
    if (canvas.width !== wide || canvas.height !== tall) Object.assign(canvas, { width: wide, height: tall });
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.fillStyle = colour("--sea");
    pen.fillRect(0, 0, view.width, view.height);
    if (this.outlines) {
      pen.save();
      pen.translate(view.width / 2 - view.x * view.size, view.height / 2 - view.y * view.size);
      pen.scale(view.size, view.size);
      pen.beginPath();
      pen.rect(0, 0, 1, 1);
      pen.clip();
      [pen.fillStyle, pen.strokeStyle, pen.lineWidth] = [colour("--land"), colour("--coast"), 1 / view.size];
      pen.fill(this.outlines, "evenodd");
      pen.stroke(this.outlines);
      pen.restore();
    }
    drawDegrees(pen, view, colour("--coast"), colour("--quiet"), style.fontFamily);
    drawScale(pen, view, colour("--quiet"), style.fontFamily);
    for (const node of this.markers.children) {
      const [left, top] = view.toScreen(node.cluster.x, node.cluster.y);
      node.style.transform = `translate(${left}px, ${top}px) translate(-50%, -50%)`;
      node.hidden = left < -30 || top < -30 || left > view.width + 30 || top > view.height + 30;
    }
  }
}

// Rings of longitude and latitude, as differences in units of 1 / scale degrees, as one path in the projected world.
function outlines({ scale, rings }) {
  const path = new Path2D();
  for (const ring of rings) {
    const points = [];
    let [longitude, latitude] = [0, 0];
    for (let place = 0; place < ring.length; place += 2) {
      longitude += ring[place];
      latitude += ring[place + 1];
      points.push(project(latitude / scale, longitude / scale));
    }
    // What lies beyond the 180th meridian is drawn once more at the other edge of the world.
    const [west, east] = [Math.min(...points.map(([x]) => x)), Math.max(...points.map(([x]) => x))];
    for (const shift of [0, ...(west < 0 ? [1] : []), ...(east > 1 ? [-1] : [])]) {
      points.forEach(([x, y], place) => (place ? path.lineTo(x + shift, y) : path.moveTo(x + shift, y)));
      path.closePath();
    }
  }
  return path;
}

// Meridians and parallels at round degrees, so that the map is not empty far from a coast.
function drawDegrees(pen, view, lines, texts, family) {
  const step = STEPS.find((one) => (one / 360) * view.size >= 130) ?? STEPS.at(-1);
  const places = step < 1 ? Math.ceil(-Math.log10(step)) : 0;
  const [south, west, north, east] = view.area();
  [pen.strokeStyle, pen.fillStyle, pen.lineWidth, pen.font] = [lines, texts, 0.5, `10px ${family}`];
  const text = (degrees, [positive, negative]) => `${Math.abs(degrees).toFixed(places)}° ${degrees < 0 ? negative : positive}`;
  pen.beginPath();
  for (let longitude = Math.ceil(west / step) * step; longitude <= east; longitude += step) {
    const left = Math.round(view.toScreen(...project(0, longitude))[0]) + 0.5;
    pen.moveTo(left, 0);
    pen.lineTo(left, view.height);
    pen.fillText(text(longitude, "EW"), left + 4, 12);
  }
  for (let latitude = Math.ceil(south / step) * step; latitude <= north; latitude += step) {
    const top = Math.round(view.toScreen(...project(latitude, 0))[1]) + 0.5;
    pen.moveTo(0, top);
    pen.lineTo(view.width, top);
    if (top > 24 && top < view.height - 34) pen.fillText(text(latitude, "NS"), 6, top - 4);
  }
  pen.stroke();
}

// A bar of a round length, as on a paper map.
function drawScale(pen, view, colour, family) {
  const most = view.metersPerPixel() * 110;
  const power = 10 ** Math.floor(Math.log10(most));
  const meters = [5, 2, 1].map((one) => one * power).find((one) => one <= most);
  const wide = meters / view.metersPerPixel();
  const [left, bottom] = [12, view.height - 12];
  [pen.strokeStyle, pen.fillStyle, pen.lineWidth, pen.font] = [colour, colour, 1.5, `11px ${family}`];
  pen.beginPath();
  pen.moveTo(left, bottom - 5);
  pen.lineTo(left, bottom);
  pen.lineTo(left + wide, bottom);
  pen.lineTo(left + wide, bottom - 5);
  pen.stroke();
  pen.fillText(meters < 1000 ? `${meters} m` : `${count(meters / 1000)} km`, left + 6, bottom - 5);
}
