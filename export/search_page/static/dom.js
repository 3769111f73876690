// Elements, icons and texts that the other modules share.

export const element = (id) => document.getElementById(id);

// Makes an element. Attributes whose value is false, null or undefined are left out; `onclick` .. become listeners.
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made[name] = value;
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// An icon of the sprite in the template.
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export function button(text, onclick, attributes = {}, picture = null) {
  const content = picture ? [icon(picture), make("span", {}, text)] : [text];
  return make("button", { type: "button", class: "button", onclick, ...attributes }, ...content);
}

// -- texts

export const count = (number) => Number(number).toLocaleString("en");

export function plural(number, one, more = `${one}s`) {
  return `${count(number)} ${Number(number) === 1 ? one : more}`;
}

export const score = (value) => value.toFixed(3);

// A probability in percent, rounded down, so that 99 % is not said of less.
export function percent(probability) {
  const value = Math.floor(probability * 1000 + 1e-6) / 10;
  return `${value >= 99 || value < 1 ? value.toFixed(1) : Math.floor(value)} %`;
}

// Times of photos are local times of the camera: they are shown as they are written, in no time zone.
const DAY = new Intl.DateTimeFormat("en", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
const MONTH = new Intl.DateTimeFormat("en", { month: "long", year: "numeric", timeZone: "UTC" });

// The start of a time as "2017-07-18"; columns may also have EXIF's form, "2017:07:18 10:30:00" or "2017:07".
export const isoDay = (text) => text.slice(0, 10).replaceAll(":", "-");

export function date(text, format = DAY) {
  const iso = isoDay(text);
  if (iso.length < 10) return iso.length === 7 ? period(iso, "month") : iso;
  const time = new Date(iso);
  return Number.isNaN(time.getTime()) ? iso : format.format(time);
}

const SHORT = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
export const shortDate = (text) => date(text, SHORT);

export const dateAndTime = (text) => (text.length > 10 ? `${date(text)}, ${text.slice(11, 16)}` : date(text));

// A bin of the time line: "5 July 2019", "July 2019" or "2019".
export function period(iso, unit) {
  if (unit === "year") return iso.slice(0, 4);
  return unit === "month" ? MONTH.format(new Date(iso.slice(0, 10))) : date(iso);
}

export function duration(seconds) {
  if (seconds < 1) return "less than a second";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function position(latitude, longitude) {
  const one = (value, positive, negative) => `${Math.abs(value).toFixed(4)}° ${value < 0 ? negative : positive}`;
  return `${one(latitude, "N", "S")}, ${one(longitude, "E", "W")}`;
}

export const fileName = (name) => name.slice(name.lastIndexOf("/") + 1);
export const folderName = (name) => name.slice(0, Math.max(0, name.lastIndexOf("/")));

// -- timing

export function debounce(action, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}

// Runs an action at most once a frame.
export function eachFrame(action) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      action();
    });
  };
}

// A short sentence at the bottom of the window, which screen readers speak.
let leaving = 0;
export function toast(text) {
  const box = element("toast");
  box.textContent = text;
  box.classList.add("shown");
  clearTimeout(leaving);
  leaving = setTimeout(() => box.classList.remove("shown"), 4000);
}

export function download(fileName_, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: address, download: fileName_ }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied.`);
  } catch {
    // Browsers offer the clipboard to pages of https:// and localhost only.
    const dialog = element("copy-dialog");
    const field = element("copy-text");
    element("copy-what").textContent = `This page may not use the clipboard. Copy the ${what.toLowerCase()} from here:`;
    field.value = text;
    dialog.showModal();
    field.select();
  }
}
