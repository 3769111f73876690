// The viewer: one photo large, with the photos before and after it, its facts, and what can be done with it.

import { photoAddress, thumbnailAddress } from "./api.js";
import { Boxes } from "./boxes.js";
import { copy, count, dateAndTime, element, fileName, folderName, make, percent, position, score } from "./dom.js";
import { foundBox, isPart } from "./found.js";
import { isVerified, Matches } from "./matches.js";
import { change, state } from "./state.js";

const SWIPE = 50; // pixels on the screen
const LARGEST = 8; // zoom
const MOST_ENLARGED = 2.5; // screen pixels a pixel

// The share of the photo's area that the found part has.
const partText = ({ box: [left, top, right, bottom], size: [width, height] }) =>
  `the framed ${Math.round((100 * (right - left) * (bottom - top)) / (width * height))} % of the photo`;

export class Viewer {
  // `sequence` gives {count, at(place), find(name)} of the photos around; `actions` acts on a photo.
  // `queryAddress` gives the address of a photo of the search, by its number.
  constructor({ sequence, path, actions, selection, queryAddress }) {
    Object.assign(this, { sequence, path, actions, selection, queryAddress, paired: false, photo: null, place: -1, zoom: 1, x: 0, y: 0 });
    this.dialog = element("viewer");
    this.image = element("viewer-photo");
    this.frame = element("viewer-frame");
    this.canvas = element("viewer-canvas");
    this.matches = new Matches(element("viewer-pair"));
    this.boxes = new Boxes(this.image, this.canvas, (boxes) => this.showDrawn(boxes));
    this.dialog.addEventListener("cancel", (event) => { event.preventDefault(); this.escape(); });
    this.dialog.onkeydown = (event) => this.key(event);
    this.image.onload = () => {
      this.frame.classList.add("loaded");
      this.fit();
    };
    new ResizeObserver(() => this.fit()).observe(this.frame);
    this.image.onerror = () => this.image.hasAttribute("src") && this.frame.classList.add("missing");
    const onclick = {
      "viewer-close": () => this.close(),
      "viewer-before": () => this.go(-1),
      "viewer-after": () => this.go(1),
      "viewer-search": () => this.search(),
      "viewer-draw": () => this.setDrawing(!this.drawing),
      "viewer-match": () => { this.paired = !this.paired; this.showPair(); this.showActions(); },
      "viewer-like": () => this.actions.judge(this.photo.name, "like"),
      "viewer-unlike": () => this.actions.judge(this.photo.name, "unlike"),
      "viewer-select": () => { this.selection().toggle(this.photo.name, this.place); this.showActions(); },
      "viewer-path": () => copy(this.path(this.photo.name), "Path"),
      "viewer-zoom": () => this.setZoom(this.zoom > 1 ? 1 : 3),
    };
    for (const [id, action] of Object.entries(onclick)) element(id).onclick = action;
    this.listen();
  }

  // Follows the state: opens, changes the photo or closes.
  async follow(before) {
    if (!state.open) {
      if (this.dialog.open) this.dialog.close();
      this.photo = null;
      this.image.removeAttribute("src");
      return;
    }
    if (state.open !== before.open || !this.dialog.open) await this.show(state.open);
    this.showActions();
  }

  async show(name) {
    if (!this.dialog.open) {
      this.dialog.showModal();
      this.frame.focus();
    }
    if (this.photo?.name !== name) {
      this.place = await this.sequence().find(name);
      const photo = this.place < 0 ? null : await this.sequence().at(this.place);
      if (state.open !== name) return;
      this.photo = photo?.name === name ? photo : { name };
    }
    this.setDrawing(false);
    this.setZoom(1);
    this.frame.classList.remove("loaded", "missing");
    this.frame.style.backgroundImage = `url("${thumbnailAddress(name, 512)}")`;
    this.image.removeAttribute("src");
    this.image.src = photoAddress(name);
    this.image.alt = name;
    this.showFound();
    this.showPair();
    this.showFacts();
    this.showActions();
    this.preload();
  }

  async go(step) {
    const sequence = this.sequence();
    const place = this.place + step;
    if (this.place < 0 || place < 0 || place >= sequence.count) return;
    const photo = await sequence.at(place);
    if (!photo) return;
    Object.assign(this, { place, photo });
    change({ open: photo.name }, { replace: true });
  }

  async preload() {
    const sequence = this.sequence();
    if (this.place < 0 || this.place + 1 >= sequence.count) return;
    const photo = await sequence.at(this.place + 1);
    if (photo) this.next = Object.assign(new Image(), { src: photoAddress(photo.name) });
  }

  close() {
    const { place } = this;
    change({ open: "" });
    this.actions.closed(place);
  }

  escape() {
    if (this.drawing) this.setDrawing(false);
    else if (this.zoom > 1) this.setZoom(1);
    else this.close();
  }

  // -- showing

  // The part that a search found, while no box is drawn.
  showFound() {
    this.found?.remove();
    this.found = this.photo && isPart(this.photo) && !this.drawing ? foundBox(this.photo) : null;
    if (this.found) this.image.after(this.found);
  }

  // The photo of the search beside this one, with lines between matching points, if the user asks for it.
  showPair() {
    const address = this.photo?.match ? this.queryAddress(this.photo.match.query) : "";
    const pairs = Boolean(this.photo?.match?.points.length && address);
    element("viewer-match").hidden = !pairs;
    const shows = pairs && this.paired && !this.drawing;
    this.frame.classList.toggle("paired", shows);
    if (shows) this.matches.show(this.photo, address, photoAddress(this.photo.name));
    else this.matches.hide();
  }

  showFacts() {
    const { photo } = this;
    const { count: photos } = this.sequence();
    element("viewer-title").textContent = fileName(photo.name);
    element("viewer-place").textContent = this.place < 0 ? "" : `${count(this.place + 1)} of ${count(photos)}`;
    element("viewer-before").disabled = this.place <= 0;
    element("viewer-after").disabled = this.place < 0 || this.place + 1 >= photos;
    const facts = [
      ["Left out", photo.left_out ?? ""],
      ["Folder", folderName(photo.name)],
      ["Score", photo.score === undefined ? "" : score(photo.score)],
      ["Probability of a match", photo.probability === undefined ? "" : percent(photo.probability)],
      ["Matching points", photo.match ? `${count(photo.match.inliers)}${isVerified(photo) ? "" : " (as by chance)"}` : ""],
      ["Found in", isPart(photo) ? partText(photo) : ""],
      ["Time", photo.time ? dateAndTime(photo.time) : ""],
      ["Place", Number.isFinite(photo.latitude) && photo.latitude !== null ? position(photo.latitude, photo.longitude) : ""],
      ...Object.entries(photo.columns ?? {}),
    ].filter(([, value]) => value !== "" && value !== null && value !== undefined);
    element("viewer-facts").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))));
  }

  showActions() {
    if (!this.photo) return;
    const { name } = this.photo;
    const pressed = { "viewer-like": state.like.includes(name), "viewer-unlike": state.unlike.includes(name), "viewer-select": this.selection().has(name), "viewer-draw": this.drawing, "viewer-match": this.paired, "viewer-zoom": this.zoom > 1 };
    for (const [id, on] of Object.entries(pressed)) element(id).setAttribute("aria-pressed", String(Boolean(on)));
  }

  // -- boxes

  setDrawing(drawing) {
    this.drawing = drawing;
    if (drawing) this.setZoom(1);
    this.boxes.set([]);
    this.canvas.hidden = !drawing;
    element("viewer-hint").hidden = !drawing;
    this.showFound();
    this.showPair();
    this.showDrawn([]);
    this.showActions();
    if (drawing) this.canvas.focus();
  }

  showDrawn(boxes) {
    const text = { 0: "Find similar", 1: "Search with the box" }[boxes.length] ?? `Search with ${boxes.length} boxes`;
    element("viewer-search").querySelector("span").textContent = text;
  }

  search() {
    this.actions.search(this.photo.name, this.boxes.boxes);
  }

  // -- size, zoom and swipes

  // Small photos are enlarged, but not so far that they are only blurred.
  fit() {
    const { naturalWidth: width, naturalHeight: height } = this.image;
    if (!width || !this.frame.clientWidth) return;
    const scale = Math.min(this.frame.clientWidth / width, this.frame.clientHeight / height, MOST_ENLARGED);
    this.image.style.width = `${Math.floor(width * scale)}px`;
    this.image.style.height = `${Math.floor(height * scale)}px`;
  }

  setZoom(zoom, left = this.frame.clientWidth / 2, top = this.frame.clientHeight / 2) {
    const next = Math.min(Math.max(zoom, 1), LARGEST);
    // The point of the photo at `left`, `top` stays there.
    this.x = left - ((left - this.x) * next) / this.zoom;
    this.y = top - ((top - this.y) * next) / this.zoom;
    this.zoom = next;
    this.clamp();
    this.showActions();
  }

  clamp() {
    const inside = (value, length) => Math.min(Math.max(value, length * (1 - this.zoom)), 0);
    this.x = inside(this.x, this.frame.clientWidth);
    this.y = inside(this.y, this.frame.clientHeight);
    element("viewer-stage").style.transform = this.zoom > 1 ? `translate(${this.x}px, ${this.y}px) scale(${this.zoom})` : "";
    this.frame.classList.toggle("zoomed", this.zoom > 1);
  }

  listen() {
    const { frame } = this;
    const pointers = new Map();
    let start = null;
    const at = (event) => {
      const edge = frame.getBoundingClientRect();
      return [event.clientX - edge.left, event.clientY - edge.top];
    };
    frame.onpointerdown = (event) => {
      if (this.drawing || event.button || event.target.closest("button")) return;
      frame.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, at(event));
      start = pointers.size === 1 ? { at: at(event), time: event.timeStamp } : null;
    };
    frame.onpointermove = (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const [x, y] = at(event);
      const other = [...pointers.entries()].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const distance = ([one, two]) => Math.max(20, Math.hypot(one - other[0], two - other[1]));
        this.setZoom((this.zoom * distance([x, y])) / distance(before), (x + other[0]) / 2, (y + other[1]) / 2);
      } else if (this.zoom > 1) {
        this.x += x - before[0];
        this.y += y - before[1];
        this.clamp();
      }
      pointers.set(event.pointerId, [x, y]);
    };
    frame.onpointerup = frame.onpointercancel = (event) => {
      pointers.delete(event.pointerId);
      const [x, y] = at(event);
      const isSwipe = start && this.zoom === 1 && event.type === "pointerup" && Math.abs(x - start.at[0]) > Math.max(SWIPE, 2 * Math.abs(y - start.at[1]));
      if (isSwipe) this.go(x < start.at[0] ? 1 : -1);
      start = null;
    };
    frame.ondblclick = (event) => !this.drawing && this.setZoom(this.zoom > 1 ? 1 : 3, ...at(event));
    frame.addEventListener("wheel", (event) => {
      if (this.drawing) return;
      event.preventDefault();
      this.setZoom(this.zoom * 2 ** (-event.deltaY / 300), ...at(event));
    }, { passive: false });
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, textarea")) return;
    const keys = {
      ArrowLeft: () => this.go(-1), ArrowRight: () => this.go(1), ArrowUp: () => this.go(-1), ArrowDown: () => this.go(1),
      Home: () => this.go(-this.place), End: () => this.go(this.sequence().count - 1 - this.place),
    };
    const letters = {
      s: () => this.search(), b: () => this.setDrawing(!this.drawing), m: () => element("viewer-match").hidden || element("viewer-match").click(), z: () => element("viewer-zoom").click(),
      "+": () => element("viewer-like").click(), "=": () => element("viewer-like").click(), "-": () => element("viewer-unlike").click(),
      c: () => element("viewer-path").click(), x: () => element("viewer-select").click(),
    };
    const action = keys[event.key] ?? (this.actions.lettersOn() ? letters[event.key] : undefined);
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }
}
