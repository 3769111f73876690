// The filters: a part of the name, folders, time and columns, and the list of those in force.

import { json } from "./api.js";
import { ColumnForm, presence } from "./columns.js";
import { button, count, date, debounce, element, icon, make } from "./dom.js";
import { change, columnState, filterParameters, hasFilter, isSearching, onlyFilter, state, withColumn, withoutFilter } from "./state.js";

const MOST_FOLDERS = 200; // folders that are listed at once
const MOST_EXPLAINED = 12; // filters that are tried alone when no photo satisfies all of them
const NARROW = matchMedia("(max-width: 820px)");

export class Filters {
  constructor() {
    this.summary = null;
    this.form = new ColumnForm(element("columns"));
    // The column of the time line and that of the map's latitudes; both have controls of their own.
    this.special = { time: null, latitude: null };
    this.presences = { time: presence("time", "a time", () => this.special.time.name), latitude: presence("place", "a place", () => this.special.latitude.name) };
    for (const role of Object.keys(this.presences)) {
      element("special-columns").append(this.presences[role].field);
    }
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
    const columns = Object.entries(summary.columns).map(([name, facts]) => ({ name, ...facts }));
    for (const role of Object.keys(this.special)) this.special[role] = columns.find((column) => column.role === role) ?? null;
    this.form.setColumns(columns.filter(({ role }) => !role));
    this.show();
  }

  show() {
    const text = element("text");
    if (document.activeElement !== text) text.value = state.text;
    for (const key of ["after", "before"]) element(key).value = state[key].slice(0, 10);
    this.showFolders();
    this.form.show();
    for (const [role, column] of Object.entries(this.special)) {
      if (column) this.presences[role].show(columnState(column.name).has, column);
      else this.presences[role].field.hidden = true;
    }
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

  // -- the filters in force, each with a button that removes it

  // Each filter as a text, the changes that remove it, and those that set it alone.
  parts() {
    const parts = [];
    const add = (text, without, alone) => parts.push({ text, without, alone });
    if (state.stackOf && !isSearching()) add("One stack", { stackOf: "" }, null);
    if (state.folder) add(state.folder, { folder: "" }, { folder: state.folder });
    if (state.text) add(`“${state.text}”`, { text: "" }, { text: state.text });
    if (state.after) add(`from ${date(state.after)}`, { after: "" }, { after: state.after });
    if (state.before) add(`to ${date(state.before)}`, { before: "" }, { before: state.before });
    if (state.area) add("in the area of the map", { area: null }, { area: state.area });
    for (const [name, chosen] of Object.entries(state.columns)) {
      const of = (text, without, alone) => add(`${name}${text}`, { columns: withColumn(name, without) }, { columns: withColumn(name, alone, onlyFilter({})) });
      const others = (key, value) => ({ [key]: chosen[key].filter((one) => one !== value) });
      for (const value of chosen.any) of(`: ${value || "(empty)"}`, others("any", value), { any: [value] });
      for (const value of chosen.all) of(`: with ${value || "(empty)"}`, others("all", value), { all: [value] });
      for (const value of chosen.none) of(`: not ${value || "(empty)"}`, others("none", value), { none: [value] });
      const shown = (value) => (this.summary?.columns[name]?.type === "time" ? date(value) : value);
      if (chosen.from) of(` from ${shown(chosen.from)}`, { from: "" }, { from: chosen.from });
      if (chosen.to) of(` to ${shown(chosen.to)}`, { to: "" }, { to: chosen.to });
      if (chosen.has) {
        const role = Object.keys(this.special).find((one) => this.special[one]?.name === name);
        const what = { time: "a time", latitude: "a place" }[role] ?? "a value";
        add(`${role ? "" : `${name}: `}${chosen.has === "1" ? "with" : "without"} ${what}`, { columns: withColumn(name, { has: "" }) }, { columns: withColumn(name, { has: chosen.has }, onlyFilter({})) });
      }
    }
    return parts;
  }

  showChips() {
    const chips = this.parts().map(({ text, without }) => button(text, () => change(without), { class: "button chip", "aria-label": `Remove the filter: ${text}` }, "close"));
    if (chips.length > 1) chips.push(button("Remove all", () => change(withoutFilter()), { class: "button chip" }));
    element("chips").replaceChildren(...chips);
    element("chips").hidden = !chips.length;
    element("filters-open").classList.toggle("on", hasFilter());
  }

  // Says how many photos the filters leave, where the list of photos is covered by the filters.
  showCount(text) {
    element("filters-count").textContent = text;
  }

  // Why no photo is left: a sentence, and the changes that remove the filters at fault. `parameters` are further ones.
  async reason(parameters = {}) {
    const asked = JSON.stringify(state);
    const parts = this.parts().filter(({ alone }) => alone).slice(0, MOST_EXPLAINED);
    const totals = await Promise.all(parts.map(async ({ alone }) => {
      const filter = filterParameters(onlyFilter(alone));
      for (const [name, value] of Object.entries({ count: 0, ...parameters })) filter.set(name, value);
      return (await json("photos.json", { parameters: filter })).total;
    }));
    if (JSON.stringify(state) !== asked) return null;
    const atFault = parts.filter((_, place) => totals[place] === 0);
    if (!atFault.length) return parts.length > 1 ? { text: "Each filter leaves photos, but no photo matches all of them.", changes: withoutFilter(), action: "Remove the filters" } : null;
    const columns = atFault.length === 1 ? atFault[0].without : withoutFilter();
    const names = atFault.map(({ text }) => (text.startsWith("“") ? text : `“${text}”`)).join(" and ");
    return { text: `No photo matches ${names}.`, changes: columns, action: atFault.length === 1 ? "Remove this filter" : "Remove the filters" };
  }
}
