// The form for the columns of an index: a card for each column, with a control that fits its type.
//
// Texts: any or none of some values. Lists of texts: any, all or none. Numbers and times: from, to. Every column: with or
// without a value. What is chosen is in the state, from which each card shows itself.

import { isAbort, json } from "./api.js";
import { count, debounce, isoDay, make, plural } from "./dom.js";
import { change, columnState, state, withColumn } from "./state.js";

const MOST_LISTED = 12; // values with a box of their own; others are typed, with suggestions
const HOURS_WITHIN = 3; // days within which a range of times needs hours
const MODES = { any: "any of these", all: "all of these", none: "none of these" };
let number = 0; // of a card, for the ids of its elements

export class ColumnForm {
  constructor(box) {
    this.box = box;
    this.cards = new Map();
  }

  // `columns` is a list of the server's descriptions, each with its `name`. Cards stay as they are where nothing changed.
  setColumns(columns) {
    const cards = new Map();
    for (const column of columns) {
      const old = this.cards.get(column.name);
      const card = old?.type === column.type ? old : column.type === "text" || column.type === "texts" ? new Choice(column) : new Range(column);
      card.take(column);
      cards.set(column.name, card);
    }
    this.cards = cards;
    const elements = [...cards.values()].map(({ details }) => details);
    if (elements.some((one, place) => one !== this.box.children[place]) || elements.length !== this.box.children.length) this.box.replaceChildren(...elements);
    this.show();
  }

  show() {
    for (const card of this.cards.values()) card.show();
  }
}

// What all cards have: a heading that opens the card, the choice of empty values, and a sentence.
class Card {
  constructor({ name, type }) {
    Object.assign(this, { name, type, id: `column-${(number += 1)}` });
    this.mark = make("small", { class: "card-mark" });
    this.body = make("div", { class: "card", role: "group", "aria-label": name });
    this.details = make("details", {}, make("summary", {}, make("span", {}, name), this.mark), this.body);
    this.details.ontoggle = () => this.show();
    this.presence = presence(this.id, "a value", () => name);
    this.sentence = make("p", { class: "quiet", role: "status" });
  }

  take(column) {
    this.column = column;
    this.listed = null;
  }

  get chosen() {
    return columnState(this.name);
  }

  choose(changes, options) {
    change({ columns: withColumn(this.name, changes) }, options);
  }

  // Cards that were never open have no controls yet: an index may have hundreds of columns.
  show() {
    const chosen = this.chosen;
    const active = chosen.any.length + chosen.all.length + chosen.none.length + Boolean(chosen.from) + Boolean(chosen.to) + Boolean(chosen.has);
    if (active && !this.wasActive) this.details.open = true;
    this.wasActive = active > 0;
    this.mark.textContent = active ? count(active) : "";
    this.mark.title = active ? plural(active, "condition") : "";
    if (!this.details.open) return;
    if (!this.body.children.length) this.body.append(...this.controls(), this.presence.field, this.sentence);
    this.fill(chosen);
    this.presence.show(chosen.has, this.column);
  }
}

class Choice extends Card {
  constructor(column) {
    super(column);
    this.mode = "any";
    this.suggestions = make("datalist", { id: `${this.id}-values` });
    this.suggest = debounce(() => this.ask(), 150);
  }

  controls() {
    const modes = Object.entries(MODES).filter(([mode]) => mode !== "all" || this.type === "texts");
    this.select = make("select", { "aria-label": `${this.name}: which photos`, onchange: () => this.turn(this.select.value) }, ...modes.map(([value, text]) => make("option", { value }, text)));
    this.list = make("ul", { "aria-label": `Values of ${this.name}` });
    this.input = make("input", { type: "search", list: this.suggestions.id, "aria-label": `Another value of ${this.name}`, placeholder: "another value", autocomplete: "off", spellcheck: "false" });
    this.input.onfocus = () => this.ask();
    this.input.oninput = (event) => {
      // A suggestion that was taken comes at once, not letter by letter.
      const taken = !event.inputType || event.inputType === "insertReplacementText";
      if (taken && this.input.value && [...this.suggestions.options].some(({ value }) => value === this.input.value)) this.add(this.input.value);
      else this.suggest();
    };
    this.input.onkeydown = (event) => {
      if (event.key !== "Enter" || !this.input.value.trim()) return;
      event.preventDefault();
      this.find(this.input.value.trim());
    };
    return [this.select, this.list, this.input, this.suggestions];
  }

  fill(chosen) {
    this.mode = Object.keys(MODES).find((mode) => chosen[mode].length) ?? this.mode;
    this.select.value = this.mode;
    const values = this.column.values.slice(0, MOST_LISTED);
    const known = new Set(values.map(({ value }) => value));
    const counts = new Map(this.column.values.map((one) => [one.value, one.count]));
    const more = chosen[this.mode].filter((value) => !known.has(value)).map((value) => ({ value, count: counts.get(value) ?? null }));
    const listed = JSON.stringify([values, more]);
    if (listed !== this.listed) {
      this.listed = listed;
      const focused = this.list.contains(document.activeElement) ? document.activeElement.value : null;
      this.list.replaceChildren(...[...values, ...more].map((one) => this.box(one)));
      if (focused !== null) [...this.list.querySelectorAll("input")].find(({ value }) => value === focused)?.focus();
    }
    for (const box of this.list.querySelectorAll("input")) box.checked = chosen[this.mode].includes(box.value);
    this.input.hidden = this.column.distinct <= MOST_LISTED;
    this.select.hidden = !this.column.distinct && !more.length;
    this.sentence.textContent = this.column.distinct ? "" : "No photo has a value.";
  }

  box({ value, count: photos }) {
    const box = make("input", { type: "checkbox", value });
    box.onchange = () => this.toggle(value, box.checked);
    return make("li", {}, make("label", { class: "value" }, box, make("span", {}, value || "(empty)"), photos === null ? null : make("small", {}, count(photos))));
  }

  toggle(value, wanted) {
    const values = this.chosen[this.mode].filter((one) => one !== value);
    this.choose({ [this.mode]: wanted ? [...values, value] : values });
  }

  turn(mode) {
    const chosen = this.chosen;
    const values = chosen[this.mode];
    const former = this.mode;
    this.mode = mode;
    if (values.length) this.choose({ [former]: [], [mode]: [...new Set([...chosen[mode], ...values])] });
  }

  add(value) {
    this.input.value = "";
    this.sentence.textContent = "";
    if (!this.chosen[this.mode].includes(value)) this.toggle(value, true);
  }

  async values(part, most) {
    this.request?.abort();
    const request = (this.request = new AbortController());
    const parameters = new URLSearchParams({ column: this.name, part, count: most });
    return (await json("values.json", { parameters, signal: request.signal })).values;
  }

  async ask() {
    try {
      const values = await this.values(this.input.value.trim(), 20);
      this.suggestions.replaceChildren(...values.map(({ value, count: photos }) => make("option", { value }, plural(photos, "photo"))));
    } catch (error) {
      if (!isAbort(error)) this.sentence.textContent = error.message;
    }
  }

  // Takes a typed value, also in other letters than the photos have it.
  async find(text) {
    try {
      const values = (await this.values(text, 200)).map(({ value }) => value);
      const same = values.filter((value) => value.toLowerCase() === text.toLowerCase());
      if (values.includes(text)) this.add(text);
      else if (same.length) this.add(same[0]);
      else if (values.length === 1) this.add(values[0]);
      else this.sentence.textContent = values.length ? `No photo has exactly “${text}”: choose one of the suggestions.` : `No photo has “${text}”.`;
    } catch (error) {
      if (!isAbort(error)) this.sentence.textContent = error.message;
    }
  }
}

class Range extends Card {
  controls() {
    this.inputs = { from: make("input", {}), to: make("input", {}) };
    for (const [key, input] of Object.entries(this.inputs)) input.onchange = () => this.choose({ [key]: input.value.trim() });
    const hint = `${this.id}-range`;
    this.hint = make("p", { class: "quiet", id: hint });
    const fields = Object.entries(this.inputs).map(([key, input]) => {
      input.setAttribute("aria-describedby", hint);
      input.setAttribute("aria-label", `${this.name}: ${key}`);
      return make("label", { class: "field" }, make("span", { "aria-hidden": "true" }, key === "from" ? "From" : "To"), input);
    });
    return [...fields, this.hint];
  }

  fill(chosen) {
    const [least, greatest] = this.column.range ?? ["", ""];
    const isTime = this.type === "time";
    const hours = isTime && least && Math.abs(new Date(isoDay(greatest)) - new Date(isoDay(least))) < HOURS_WITHIN * 86_400_000;
    for (const [key, input] of Object.entries(this.inputs)) {
      input.type = isTime ? (hours ? "datetime-local" : "date") : "number";
      if (isTime && hours) input.step = 1;
      if (!isTime) input.step = "any";
      if (!isTime) input.placeholder = key === "from" ? least : greatest;
      if (document.activeElement !== input) input.value = isTime && !hours ? isoDay(chosen[key]) : chosen[key];
    }
    const shorter = (text) => (isTime ? (hours ? text.replace("T", " ") : isoDay(text)) : text);
    this.hint.textContent = least === "" ? "No photo has a value." : least === greatest ? `All photos have ${shorter(least)}.` : `${shorter(least)} to ${shorter(greatest)}`;
    const wrong = chosen.from && chosen.to && (isTime ? chosen.from.localeCompare(chosen.to) > 0 && !chosen.from.startsWith(chosen.to) : Number(chosen.from) > Number(chosen.to));
    this.sentence.textContent = wrong ? "From is after To, which no photo can be." : "";
  }
}

// The choice between photos with and without `what`: `field`, and `show` with what is chosen.
export function presence(id, what, column) {
  const options = ["", "1", "0"].map((value) => make("option", { value }));
  const select = make("select", { id: `${id}-has` }, ...options);
  select.onchange = () => change({ columns: withColumn(column(), { has: select.value }) });
  const field = make("label", { class: "field", hidden: true }, make("span", {}, what.replace(/^a (.)/, (_, first) => first.toUpperCase())), select);
  return {
    field,
    show(has, { count: filled, empty }) {
      const texts = [`All ${count(filled + empty)}`, `With ${what} (${count(filled)})`, `Without ${what} (${count(empty)})`];
      options.forEach((option, place) => { option.textContent = texts[place]; });
      select.value = has;
      field.hidden = !has && !(filled && empty);
    },
  };
}
