// Web Mercator: degrees to a square world of side 1, and the view of it that the map shows.

const MOST_LATITUDE = 85.05;
export const [FURTHEST, NEAREST] = [256, 2 ** 26]; // pixels of the whole world

export function project(latitude, longitude) {
  const sine = Math.sin((Math.min(Math.max(latitude, -MOST_LATITUDE), MOST_LATITUDE) * Math.PI) / 180);
  return [(longitude + 180) / 360, 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI)];
}

export function unproject(x, y) {
  return [(Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI, x * 360 - 180];
}

// The part of the world on a canvas: `x`, `y` is its middle, `size` the pixels of the whole world.
export class View {
  constructor() {
    Object.assign(this, { x: 0.5, y: 0.42, size: 600, width: 1, height: 1 });
  }

  toScreen(x, y) {
    return [(x - this.x) * this.size + this.width / 2, (y - this.y) * this.size + this.height / 2];
  }

  toWorld(left, top) {
    return [(left - this.width / 2) / this.size + this.x, (top - this.height / 2) / this.size + this.y];
  }

  pan(right, down) {
    this.x = Math.min(Math.max(this.x - right / this.size, 0), 1);
    this.y = Math.min(Math.max(this.y - down / this.size, 0), 1);
  }

  // Zooms by a factor; the point of the world at `left`, `top` stays there.
  zoom(factor, left = this.width / 2, top = this.height / 2) {
    const [x, y] = this.toWorld(left, top);
    this.size = Math.min(Math.max(this.size * factor, FURTHEST), NEAREST);
    const [nextX, nextY] = this.toWorld(left, top);
    this.x += x - nextX;
    this.y += y - nextY;
    this.pan(0, 0);
  }

  // Shows an area, [south, west, north, east] in degrees, with a margin: wider at the sides, where the map's buttons are.
  fit([south, west, north, east], margin = 48) {
    // An area across the 180th meridian is shown as the whole world, which ends there.
    const [left, top] = project(north, west > east ? -180 : west);
    const [right, bottom] = project(south, west > east ? 180 : east);
    const [wide, tall] = [Math.max(right - left, 2e-6), Math.max(bottom - top, 2e-6)];
    const fits = Math.min(Math.max(this.width - 3.2 * margin, 40) / wide, Math.max(this.height - 2 * margin, 40) / tall);
    this.size = Math.min(Math.max(fits, FURTHEST), NEAREST / 16);
    [this.x, this.y] = [(left + right) / 2, (top + bottom) / 2];
  }

  area() {
    const [north, west] = unproject(...this.toWorld(0, 0));
    const [south, east] = unproject(...this.toWorld(this.width, this.height));
    const inside = (value, most) => Math.min(Math.max(value, -most), most);
    return [inside(south, 90), inside(west, 180), inside(north, 90), inside(east, 180)].map((value) => Number(value.toFixed(5)));
  }

  // Meters a pixel in the middle of the view.
  metersPerPixel() {
    const [latitude] = unproject(this.x, this.y);
    return (40_075_017 * Math.cos((latitude * Math.PI) / 180)) / this.size;
  }
}
