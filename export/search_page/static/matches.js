// The photo of the search and a result side by side, with a line between each pair of matching points.

import { make } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const GAP = 12; // pixels on the screen

// Whether verification found enough matches: fewer agree by chance.
export const FEWEST = 20;
export const isVerified = ({ match }) => Boolean(match) && match.inliers >= FEWEST;

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export class Matches {
  // `room` is the element in which the pair is drawn; it fills it.
  constructor(room) {
    this.room = room;
    this.images = [0, 1].map(() => make("img", { alt: "", draggable: "false" }));
    this.lines = svg("svg", { "aria-hidden": "true" });
    room.append(...this.images, this.lines);
    for (const image of this.images) image.onload = () => this.draw();
    new ResizeObserver(() => this.draw()).observe(room);
  }

  show({ match }, queryAddress, photoAddress) {
    this.match = match;
    this.room.hidden = false;
    this.room.setAttribute("aria-label", `${match.inliers} points of the photo of the search and of this photo match`);
    this.lines.replaceChildren();
    [queryAddress, photoAddress].forEach((address, place) => { this.images[place].src = address; });
  }

  hide() {
    this.room.hidden = true;
    for (const image of this.images) image.removeAttribute("src");
  }

  draw() {
    const sizes = this.images.map((image) => [image.naturalWidth, image.naturalHeight]);
    const { clientWidth: width, clientHeight: height } = this.room;
    if (this.room.hidden || !width || sizes.some(([side]) => !side)) return;
    const places = width > height ? besides(sizes, width, height) : besides(sizes.map(turned), height, width).map(turnedPlace);
    places.forEach(([left, top, wide, tall], place) => {
      Object.assign(this.images[place].style, { left: `${left}px`, top: `${top}px`, width: `${wide}px`, height: `${tall}px` });
    });
    const onScreen = (place, x, y) => {
      const [left, top, wide, tall] = places[place];
      return [left + (x / sizes[place][0]) * wide, top + (y / sizes[place][1]) * tall];
    };
    this.lines.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const drawn = this.match.points.flatMap(([queryX, queryY, x, y], number) => {
      const [from, to] = [onScreen(0, queryX, queryY), onScreen(1, x, y)];
      const stroke = `hsl(${(number * 47) % 360} 90% 60%)`;
      const line = svg("line", { x1: from[0], y1: from[1], x2: to[0], y2: to[1], stroke });
      return [line, ...[from, to].map(([cx, cy]) => svg("circle", { cx, cy, r: 3, fill: stroke }))];
    });
    const boxes = [this.match.query_box, this.match.box].map((box, place) => {
      if (!box) return null;
      const [left, top] = onScreen(place, box[0], box[1]);
      const [right, bottom] = onScreen(place, box[2], box[3]);
      return svg("rect", { x: left, y: top, width: right - left, height: bottom - top });
    });
    this.lines.replaceChildren(...boxes.filter(Boolean), ...drawn);
  }
}

const turned = ([width, height]) => [height, width];
const turnedPlace = ([left, top, wide, tall]) => [top, left, tall, wide];

// The places of two photos of one height beside each other, as large as they fit: left, top, width and height.
function besides(sizes, width, height) {
  const shares = sizes.map(([wide, tall]) => wide / tall);
  const tall = Math.min(height, (width - GAP) / (shares[0] + shares[1]));
  const wides = shares.map((share) => share * tall);
  const left = (width - wides[0] - GAP - wides[1]) / 2;
  const top = (height - tall) / 2;
  return [[left, top, wides[0], tall], [left + wides[0] + GAP, top, wides[1], tall]];
}
