// The selected photos, and what can be done with them: names as CSV or JSON, paths, and a search.

import { copy, count, download, element, plural, toast } from "./dom.js";

const MOST_QUERIES = 20; // photos of one search

export class Selection {
  // `onChanged` redraws tiles; `onSearch` searches with names.
  constructor({ folder, onChanged, onSearch }) {
    Object.assign(this, { folder, onChanged, onSearch, anchor: null });
    this.names = new Set();
    element("selection-search").onclick = () => this.search();
    element("selection-csv").onclick = () => this.csv();
    element("selection-json").onclick = () => this.json();
    element("selection-paths").onclick = () => copy([...this.names].map((name) => this.path(name)).join("\n"), plural(this.names.size, "path", "paths"));
    element("selection-clear").onclick = () => this.clear();
  }

  has(name) {
    return this.names.has(name);
  }

  toggle(name, row) {
    if (!this.names.delete(name)) this.names.add(name);
    this.anchor = row;
    this.show();
  }

  // Selects all photos from the one that was selected last to `row`; `names` gives the names of rows.
  async range(row, names) {
    const from = this.anchor ?? row;
    this.add(await names(Math.min(from, row), Math.max(from, row)));
  }

  add(names) {
    for (const name of names) this.names.add(name);
    this.show();
  }

  clear() {
    this.names.clear();
    this.anchor = null;
    this.show();
  }

  show() {
    const size = this.names.size;
    element("selection").hidden = size === 0;
    element("selection-count").textContent = `${count(size)} selected`;
    element("selection-search").hidden = size > MOST_QUERIES;
    document.body.classList.toggle("selecting", size > 0);
    this.onChanged();
  }

  search() {
    const names = [...this.names];
    this.clear();
    this.onSearch(names);
  }

  // Scores of the results, by name, are given along where a search was made.
  rows() {
    return [...this.names].map((name) => {
      const row = { name, path: this.path(name) };
      const found = this.scores?.(name);
      return found === undefined ? row : { ...row, score: found };
    });
  }

  csv() {
    const rows = this.rows();
    const columns = ["name", "path", ...(rows.some((row) => row.score !== undefined) ? ["score"] : [])];
    const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const lines = [columns, ...rows.map((row) => columns.map((column) => cell(String(row[column] ?? ""))))];
    download("photos.csv", lines.map((line) => line.join(",")).join("\r\n") + "\r\n", "text/csv");
    toast(`photos.csv has ${plural(rows.length, "name")}.`);
  }

  json() {
    download("photos.json", JSON.stringify(this.rows(), null, 1) + "\n", "application/json");
    toast(`photos.json has ${plural(this.names.size, "name")}.`);
  }

  path(name) {
    const folder = this.folder();
    return folder ? `${folder.replace(/\/$/, "")}/${name}` : name;
  }
}

