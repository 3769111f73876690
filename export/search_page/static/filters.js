// The filters: a part of the name, folders, time and columns, and the list of those in force.

import { button, count, date, debounce, element, icon, make } from "./dom.js";
import { change, hasFilter, isSearching, state, withoutFilter } from "./state.js";

const MOST_FOLDERS = 200; // folders that are listed at once
const NARROW = matchMedia("(max-width: 820px)");

export class Filters {
  constructor() {
    this.summary = null;
    const text = element("text");
    text.oninput = debounce(() => change({ text: text.value.trim() }, { replace: true }), 250);
    for (const key of ["after", "before"]) element(key).onchange = (event) => change({ [key]: event.target.value });
    element("filters-open").onclick = () => this.open();
    element("filters-close").onclick = () => element("filters").close();
    NARROW.addEventListener("change", () => this.fit());
    this.fit();
  }

  // On a phone the filters are a dialog, elsewhere a part of the page.
  fit() {
    const dialog = element("filters");
    if (dialog.open) dialog.close();
    dialog.toggleAttribute("open", !NARROW.matches); // without taking the focus, which show() does
  }

  open() {
    if (!NARROW.matches) return;
    element("filters").showModal();
  }

  // What the collection has: `summary` is that of all photos, without a filter.
  setSummary(summary, has) {
    this.summary = summary;
    element("time-filter").hidden = !has.times;
    this.show();
  }

  show() {
    const text = element("text");
    if (document.activeElement !== text) text.value = state.text;
    for (const key of ["after", "before"]) element(key).value = state[key].slice(0, 10);
    this.showFolders();
    this.showColumns();
    this.showChips();
  }

  showFolders() {
    const folders = this.summary?.folders ?? [];
    const box = element("folders");
    box.hidden = !folders.length;
    if (!folders.length) return;
    const inside = state.folder ? `${state.folder}/` : "";
    const children = folders.filter(({ path }) => path.startsWith(inside) && path !== state.folder && !path.slice(inside.length).includes("/"));
    const rows = [];
    if (state.folder) {
      const parts = state.folder.split("/");
      rows.push(this.folder("All folders", "", null, "up"));
      parts.slice(0, -1).forEach((part, place) => rows.push(this.folder(part, parts.slice(0, place + 1).join("/"), null, "up")));
      const here = folders.find(({ path }) => path === state.folder);
      rows.push(this.folder(parts.at(-1), state.folder, here?.count ?? null, "folder", true));
    }
    for (const { path, count: photos } of children.slice(0, MOST_FOLDERS)) rows.push(this.folder(path.slice(inside.length), path, photos, "folder"));
    const list = box.querySelector("ul");
    const focused = document.activeElement?.dataset?.folder;
    list.replaceChildren(...rows);
    if (focused !== undefined) [...list.querySelectorAll("button")].find((one) => one.dataset.folder === focused)?.focus();
    const more = children.length - MOST_FOLDERS;
    box.querySelector("p").textContent = more > 0 ? `and ${count(more)} more: type a part of the name above` : "";
  }

  folder(name, path, photos, picture, current = false) {
    return make("li", {}, make(
      "button",
      { type: "button", class: "folder", "aria-current": current ? "true" : null, "data-folder": path, onclick: () => change({ folder: path, stackOf: "" }) },
      icon(picture), make("span", {}, name), photos === null ? null : make("small", {}, count(photos)),
    ));
  }

  showColumns() {
    const columns = Object.entries(this.summary?.columns ?? {}).filter(([, values]) => values.length > 1);
    element("columns").replaceChildren(...columns.map(([column, values]) => this.column(column, values)));
  }

  column(column, values) {
    const chosen = state.columns[column] ?? [];
    const boxes = values.map(({ value, count: photos }) => {
      const input = make("input", { type: "checkbox", checked: chosen.includes(value) });
      input.onchange = () => this.choose(column, value, input.checked);
      return make("li", {}, make("label", { class: "value" }, input, make("span", {}, value || "(empty)"), make("small", {}, count(photos))));
    });
    const details = make("details", { open: this.opened?.has(column) || chosen.length > 0 }, make("summary", {}, column), make("ul", {}, ...boxes));
    details.ontoggle = () => (this.opened ??= new Set())[details.open ? "add" : "delete"](column);
    return details;
  }

  choose(column, value, wanted) {
    const values = (state.columns[column] ?? []).filter((one) => one !== value);
    if (wanted) values.push(value);
    const columns = { ...state.columns, [column]: values };
    if (!values.length) delete columns[column];
    change({ columns });
    [...element("columns").querySelectorAll("label")].find((label) => label.textContent.startsWith(value))?.querySelector("input").focus();
  }

  // -- the filters in force, each with a button that removes it

  showChips() {
    const chips = [];
    const chip = (text, changes) => chips.push(button(text, () => change(changes), { class: "button chip", "aria-label": `Remove the filter: ${text}` }, "close"));
    if (state.stackOf && !isSearching()) chip("One stack", { stackOf: "" });
    if (state.folder) chip(state.folder, { folder: "" });
    if (state.text) chip(`“${state.text}”`, { text: "" });
    if (state.after) chip(`from ${date(state.after)}`, { after: "" });
    if (state.before) chip(`to ${date(state.before)}`, { before: "" });
    if (state.area) chip("in the area of the map", { area: null });
    for (const [column, values] of Object.entries(state.columns)) {
      for (const value of values) {
        const rest = { ...state.columns, [column]: values.filter((one) => one !== value) };
        if (!rest[column].length) delete rest[column];
        chip(`${column}: ${value}`, { columns: rest });
      }
    }
    if (chips.length > 1) chips.push(button("Remove all", () => change(withoutFilter()), { class: "button chip" }));
    element("chips").replaceChildren(...chips);
    element("chips").hidden = !chips.length;
    element("filters-open").classList.toggle("on", hasFilter());
  }
}
