// The grid of all photos: a list box that makes tiles for the visible rows only, so that its cost does not grow with
// the collection. Photos are loaded when scrolling is slow enough to look at them.

import { eachFrame } from "./dom.js";
import { fill, load, showControls, tile, unload } from "./tiles.js";

const GAP = 4;
const AHEAD = 0.6; // screens above and below that have tiles, unless the grid is scrolled fast
const TALLEST = 12e6; // browsers limit the height of elements (Firefox: 17.9 million pixels)
const FAST = 3; // pixels a millisecond: no photo is loaded while scrolling is faster
const IDLE = 90; // milliseconds after which the scrolling has ended

export class Grid {
  // `listing` gives the photos. `scroller` is the element that scrolls, `list` the list box in it.
  constructor(scroller, list, listing, { onActive, onView }) {
    Object.assign(this, { scroller, list, listing, onActive, onView, active: -1, side: 168, columns: 1, cell: 168, width: 0 });
    this.tiles = new Map(); // row -> tile
    this.free = [];
    this.last = { top: 0, time: 0 };
    this.draw = eachFrame(() => this.update());
    showControls(list);
    scroller.addEventListener("scroll", this.draw, { passive: true });
    new ResizeObserver(() => this.measure()).observe(scroller);
  }

  get total() {
    return this.listing.total ?? 0;
  }

  // -- geometry. `top` is in pixels of the whole grid, which may be taller than the element that scrolls.

  measure(side = this.side) {
    const { clientWidth: width, clientHeight: height } = this.scroller;
    if (!width || !height) return;
    const anchor = this.firstRow();
    const inside = width - 2 * GAP;
    this.side = side;
    // Tiles are smaller on a phone, which is held closer.
    this.columns = Math.max(2, Math.round(inside / (width < 560 ? 0.76 * side : side)));
    this.cell = (inside - GAP * (this.columns - 1)) / this.columns;
    Object.assign(this, { width, height });
    this.list.style.setProperty("--cell", `${this.cell}px`);
    this.resize();
    if (anchor > 0) this.scrollTo(anchor);
    this.update(true);
  }

  get step() {
    return this.cell + GAP;
  }

  resize() {
    this.tall = Math.ceil(this.total / this.columns) * this.step + GAP;
    this.shown = Math.min(this.tall, TALLEST);
    const [tall, shown] = [this.tall - this.height, this.shown - this.height];
    this.ratio = shown > 0 && tall > shown ? tall / shown : 1;
    this.list.style.height = `${this.shown}px`;
  }

  get top() {
    return this.scroller.scrollTop * this.ratio;
  }

  set top(value) {
    this.scroller.scrollTop = value / this.ratio;
  }

  firstRow() {
    return this.rowAt(this.top);
  }

  rowAt(top) {
    return this.step ? Math.min(Math.floor(top / this.step) * this.columns, Math.max(0, this.total - 1)) : 0;
  }

  scrollTo(row) {
    this.top = Math.floor(row / this.columns) * this.step;
    this.draw();
  }

  reveal(row) {
    const above = Math.floor(row / this.columns) * this.step;
    if (above < this.top) this.top = above;
    else if (above + this.step + GAP > this.top + this.height) this.top = above + this.step + GAP - this.height;
    this.draw();
  }

  // -- tiles

  // Begins with the rows of a listing that was opened anew.
  reset() {
    for (const row of [...this.tiles.keys()]) this.release(row);
    this.setActive(-1);
    this.scroller.scrollTop = 0;
    this.last.top = 0;
    this.measure();
  }

  // Reads the place of the scroller once, before anything is written: reading it in between would lay out the page anew
  // for each tile.
  update(settled = false) {
    if (!this.width || this.listing.total === null) return;
    const now = performance.now();
    const { top } = this;
    this.shift = GAP - top + top / this.ratio;
    const speed = Math.abs(top - this.last.top) / Math.max(1, now - this.last.time);
    this.last = { top, time: now };
    const ahead = settled || speed < FAST ? AHEAD * this.height : 0;
    const first = Math.max(0, Math.floor((top - ahead) / this.step)) * this.columns;
    const last = Math.min(this.total, Math.ceil((top + ahead + this.height) / this.step) * this.columns);
    for (const row of [...this.tiles.keys()]) if (row < first || row >= last) this.release(row);
    for (let row = first; row < last; row += 1) this.place(row);
    for (const node of this.free) if (!node.parked) node.classList.toggle("parked", (node.parked = true));
    if (settled) this.sortTiles();
    this.listing.want(first, last - 1);
    if (settled || speed < FAST) this.loadPhotos(top);
    clearTimeout(this.settling);
    if (!settled) this.settling = setTimeout(() => this.update(true), IDLE);
    this.onView(this.rowAt(top));
  }

  place(row) {
    let node = this.tiles.get(row);
    if (!node) {
      node = this.free.pop() ?? tile();
      node.row = row;
      this.tiles.set(row, node);
      if (!node.isConnected) this.list.append(node);
      if (node.parked) node.classList.toggle("parked", (node.parked = false));
      node.photo = null;
      node.setAttribute("aria-posinset", row + 1);
      node.setAttribute("aria-setsize", this.total);
      if (row === this.active) node.classList.add("active");
    }
    const photo = this.listing.at(row);
    if (node.photo !== photo || photo === undefined) {
      const same = node.photo && photo && node.photo.name === photo.name;
      if (!same) unload(node);
      fill(node, photo);
      this.onFill?.(node);
    }
    const x = GAP + (row % this.columns) * this.step;
    // Where the grid is taller than its element, tiles keep their distance from the visible part.
    const y = Math.floor(row / this.columns) * this.step + this.shift;
    if (node.x !== x || node.y !== y) node.style.transform = `translate(${(node.x = x)}px, ${(node.y = y)}px)`;
  }

  release(row) {
    const node = this.tiles.get(row);
    this.tiles.delete(row);
    unload(node);
    node.classList.remove("active");
    node.photo = undefined;
    this.free.push(node);
    if (row === this.active) this.list.removeAttribute("aria-activedescendant");
  }

  // Screen readers read tiles in the order of the document, in which recycled ones are not.
  sortTiles() {
    const nodes = [...this.tiles.values()].sort((one, other) => one.row - other.row);
    const sorted = nodes.every((node, place) => !place || nodes[place - 1].compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING);
    if (!sorted) this.list.append(...nodes);
  }

  // Loads the photos on the screen before those around it.
  loadPhotos(top) {
    const [from, to] = [top - this.step, top + this.height];
    const around = [];
    for (const [row, node] of this.tiles) {
      if (!node.photo) continue;
      const above = Math.floor(row / this.columns) * this.step;
      if (above >= from && above <= to) load(node, this.cell);
      else around.push(node);
    }
    for (const node of around) load(node, this.cell);
  }

  // New photos came: fills what is there again.
  refill() {
    this.resize();
    this.update(true);
  }

  // Goes on with the rows of the collection as it is now. The photos on the screen stay where they are.
  async refresh() {
    const anchor = this.firstRow();
    const [anchorPhoto, activePhoto] = [this.listing.at(anchor), this.listing.at(this.active)];
    const offset = this.top - Math.floor(anchor / this.columns) * this.step;
    const names = [anchorPhoto, activePhoto].filter(Boolean).map(({ name }) => name);
    const last = anchor + Math.ceil(this.height / this.step + 1) * this.columns;
    const rows = await this.listing.refresh(names, { anchor, first: anchor, last });
    if (rows === null) return;
    const atTop = this.scroller.scrollTop === 0;
    this.resize();
    if (!atTop && anchorPhoto && rows[0] !== null) this.top = Math.floor(rows[0] / this.columns) * this.step + offset;
    if (activePhoto) this.setActive(rows[names.length - 1] ?? -1, false);
    for (const node of this.tiles.values()) node.setAttribute("aria-setsize", this.total);
    this.update(true);
  }

  // -- the photo that the keyboard is at

  setActive(row, show = true) {
    this.tiles.get(this.active)?.classList.remove("active");
    this.active = row;
    if (row < 0) return this.list.removeAttribute("aria-activedescendant");
    if (show) this.reveal(row);
    if (show) this.update(true);
    const node = this.tiles.get(row);
    node?.classList.add("active");
    if (node) this.list.setAttribute("aria-activedescendant", node.id);
    return this.onActive(row);
  }

  // Moves by rows and columns; returns the row that is active then.
  move(key) {
    const page = Math.max(1, Math.floor(this.height / this.step)) * this.columns;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -page, PageDown: page };
    const start = this.active < 0 ? this.firstRow() : this.active;
    let row = this.active < 0 ? start : start + (steps[key] ?? 0);
    if (key === "Home") row = 0;
    if (key === "End") row = this.total - 1;
    if (row < 0 || row >= this.total) row = key.startsWith("Page") ? Math.min(Math.max(row, 0), this.total - 1) : start;
    this.setActive(row);
    return row;
  }
}
