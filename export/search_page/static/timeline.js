// The time line: a bar for each day, month or year that has photos. It is a slider that scrolls the grid through time.

import { eachFrame, element, isoDay, period, plural } from "./dom.js";

const WIDEST = 40; // pixels of a bin

export class Timeline {
  // `onScrub` is called with the first row of a bin in the listing that is sorted by time, oldest first.
  constructor(onScrub) {
    Object.assign(this, { onScrub, bins: [], unit: "day", at: 0, shown: -1 });
    this.box = element("timeline");
    this.canvas = this.box.querySelector("canvas");
    this.tip = element("timeline-tip");
    this.draw = eachFrame(() => this.paint());
    new ResizeObserver(this.draw).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.draw);
    this.listen();
  }

  show(times) {
    this.bins = times?.bins ?? [];
    this.unit = times?.unit ?? "day";
    this.box.hidden = this.bins.length < 2;
    this.canvas.setAttribute("aria-valuemax", Math.max(0, this.bins.length - 1));
    this.goTo(Math.min(this.at, this.bins.length - 1));
  }

  // Marks the bin of a time, as an ISO text; null marks no bin.
  mark(time) {
    if (this.held || time === this.time) return;
    this.time = time;
    if (!time) this.shown = -1;
    else {
      const after = this.bins.findIndex((bin) => bin.start > isoDay(time));
      this.shown = (after < 0 ? this.bins.length : after) - 1;
      if (this.shown >= 0) this.goTo(this.shown);
    }
    this.draw();
  }

  // The user scrolls the grid: the slider follows it again.
  release() {
    this.held = false;
  }

  goTo(bin) {
    this.at = Math.max(0, bin);
    this.canvas.setAttribute("aria-valuenow", this.at);
    this.canvas.setAttribute("aria-valuetext", this.text(this.at));
    this.draw();
  }

  // The width of a bin.
  get step() {
    return Math.min(this.canvas.clientWidth / this.bins.length, WIDEST);
  }

  text(bin) {
    const { start, count: photos } = this.bins[bin] ?? {};
    return start ? `${period(start, this.unit)}, ${plural(photos, "photo")}` : "";
  }

  listen() {
    const { canvas } = this;
    const binAt = (event) => {
      const { left } = canvas.getBoundingClientRect();
      return Math.min(Math.max(Math.floor((event.clientX - left) / this.step), 0), this.bins.length - 1);
    };
    let dragging = false;
    canvas.onpointerdown = (event) => {
      if (event.button) return;
      dragging = true;
      canvas.setPointerCapture(event.pointerId);
      this.scrub(binAt(event));
      this.showTip(binAt(event));
    };
    canvas.onpointermove = (event) => {
      this.showTip(binAt(event));
      if (dragging && binAt(event) !== this.at) this.scrub(binAt(event));
    };
    canvas.onpointerup = canvas.onpointercancel = () => { dragging = false; };
    canvas.onpointerleave = () => { this.tip.hidden = true; };
    canvas.onkeydown = (event) => {
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: -12, PageDown: 12, Home: -Infinity, End: Infinity };
      if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();
      this.scrub(Math.min(Math.max(this.at + steps[event.key], 0), this.bins.length - 1));
    };
  }

  scrub(bin) {
    this.held = true; // the slider stays where the user has put it, also where the grid cannot scroll so far
    this.time = undefined;
    this.goTo(bin);
    this.shown = bin;
    this.onScrub(this.bins[bin].row, this.bins[bin]);
  }

  showTip(bin) {
    this.tip.textContent = this.text(bin);
    this.tip.hidden = false;
    const middle = (bin + 0.5) * this.step;
    const half = this.tip.offsetWidth / 2;
    this.tip.style.left = `${Math.min(Math.max(middle, half), this.canvas.clientWidth - half)}px`;
  }

  paint() {
    const { canvas, bins } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !bins.length) return;
    const scale = devicePixelRatio;
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const [bar, accent, quiet] = ["--bar", "--accent", "--quiet"].map((name) => style.getPropertyValue(name));
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = `11px ${style.fontFamily}`;
    const most = Math.max(...bins.map((bin) => bin.count));
    const { step } = this;
    const below = 14; // pixels of the years' row
    bins.forEach((bin, place) => {
      // The square root keeps small bins visible beside large ones.
      const tall = Math.max(2, Math.sqrt(bin.count / most) * (height - below - 2));
      pen.fillStyle = place === this.shown ? accent : bar;
      pen.fillRect(place * step, height - below - tall, Math.max(1, step - (step > 4 ? 1 : 0)), tall);
    });
    pen.fillStyle = quiet;
    let free = 0;
    bins.forEach((bin, place) => {
      const year = bin.start.slice(0, 4);
      const isFirst = place === 0 || bins[place - 1].start.slice(0, 4) !== year;
      if (!isFirst || place * step < free || place * step > width - 26) return;
      pen.fillText(year, place * step, height - 2);
      free = place * step + 34;
    });
  }
}

