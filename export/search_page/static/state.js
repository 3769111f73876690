// The state of the page, which is also its address: a link shows the same view again.
//
// The address keeps it after "#", which browsers do not send to the server. A photo that was uploaded is not in the
// address: `upload` is the number of a photo that this page holds until it is closed.

const FIRST = Object.freeze({
  sort: "name", // "name", "time" or "time-desc"
  stacks: true, // whether copies and photos of one object are collapsed
  stackOf: "", // name of a photo whose stack is shown
  folder: "",
  after: "", // ISO dates
  before: "",
  area: null, // [south, west, north, east] in degrees
  columns: {}, // column -> what `columnState` returns, of columns with conditions only
  text: "", // part of a photo's name
  queries: [], // {photo: NAME, boxes: [[left, top, right, bottom] ..]} or {upload: NUMBER, boxes}
  like: [],
  unlike: [],
  cut: null, // lowest score of a result above the cut
  look: "pictures", // or "ranking"
  map: false,
  open: "", // name of the photo in the viewer
});

export let state = { ...FIRST };
const listeners = [];

export const onChange = (listener) => listeners.push(listener);

export const isSearching = (of = state) => of.queries.length + of.like.length > 0;

export const hasFilter = (of = state) =>
  Boolean(of.folder || of.after || of.before || of.area || of.text || of.stackOf || Object.keys(of.columns).length);

export const withoutFilter = () => ({ folder: "", after: "", before: "", area: null, text: "", stackOf: "", columns: {} });

export const withoutSearch = () => ({ queries: [], like: [], unlike: [], cut: null });

// A state with some filters only.
export const onlyFilter = (changes) => ({ ...FIRST, ...changes });

// Changes the state and the address. `replace` leaves no step for the browser's Back button.
export function change(changes, { replace = false } = {}) {
  const next = { ...state, ...changes };
  const address = "#" + format(next);
  if (address !== (location.hash || "#")) history[replace ? "replaceState" : "pushState"](null, "", address);
  set(next);
}

export function followAddress() {
  set(parse(location.hash.slice(1)));
}

function set(next) {
  const before = state;
  state = next;
  for (const listener of listeners) listener(state, before);
}

// -- conditions on columns

const NO_CONDITION = Object.freeze({ any: [], all: [], none: [], from: "", to: "", has: "" });

// The conditions on a column: any, all and none of values, from and to, and `has`: "1" with, "0" without a value.
export const columnState = (name, of = state) => (Object.hasOwn(of.columns, name) ? of.columns[name] : NO_CONDITION);

// The columns of the state after a change of one of them.
export function withColumn(name, changes, of = state) {
  const next = { ...columnState(name, of), ...changes };
  const others = Object.entries(of.columns).filter(([column]) => column !== name);
  const restricts = Object.values(next).some((value) => value.length);
  return Object.fromEntries(restricts ? [...others, [name, next]] : others);
}

// The conditions in the grammar of `search --where`.
export function conditions(columns) {
  const quoted = JSON.stringify;
  return Object.entries(columns).flatMap(([name, { any, all, none, from, to, has }]) => {
    const listed = (operator, values) => (values.length ? [`${quoted(name)} ${operator} ${values.map((value) => quoted(value)).join(", ")}`] : []);
    return [
      ...listed("in", any), ...listed("all", all), ...listed("not in", none),
      ...(from ? [`${quoted(name)} >= ${quoted(from)}`] : []), ...(to ? [`${quoted(name)} <= ${quoted(to)}`] : []),
      ...(has ? [`${quoted(name)} ${has === "1" ? "not empty" : "empty"}`] : []),
    ];
  });
}

// -- addresses

const VALUES = { column: "any", all: "all", none: "none" }; // prefixes of parameters with the values of a column
const LIMITS = { from: "from", to: "to", has: "has" };
const NAMES = { sort: "sort", stackOf: "stack", folder: "folder", after: "after", before: "before", text: "text", look: "look", open: "open" };

export function format(of) {
  const address = new URLSearchParams();
  for (const query of of.queries) {
    address.append(query.photo === undefined ? "upload" : "photo", query.photo ?? query.upload);
    for (const box of query.boxes) address.append("box", box.join(","));
  }
  for (const name of of.like) address.append("like", name);
  for (const name of of.unlike) address.append("unlike", name);
  for (const [key, name] of Object.entries(NAMES)) if (of[key] !== FIRST[key]) address.set(name, of[key]);
  for (const [column, chosen] of Object.entries(of.columns)) {
    for (const [prefix, key] of Object.entries(VALUES)) for (const value of chosen[key]) address.append(`${prefix}.${column}`, value);
    for (const [prefix, key] of Object.entries(LIMITS)) if (chosen[key]) address.set(`${prefix}.${column}`, chosen[key]);
  }
  if (of.area) address.set("area", of.area.map((degrees) => degrees.toFixed(5)).join(","));
  if (of.cut !== null) address.set("cut", of.cut);
  if (!of.stacks) address.set("stacks", "0");
  if (of.map) address.set("map", "1");
  return address.toString();
}

export function parse(text) {
  const of = { ...FIRST, columns: {}, queries: [], like: [], unlike: [] };
  for (const [name, value] of new URLSearchParams(text)) {
    const key = Object.keys(NAMES).find((one) => NAMES[one] === name);
    if (key) of[key] = value;
    else if (name === "photo") of.queries.push({ photo: value, boxes: [] });
    else if (name === "upload") of.queries.push({ upload: Number(value), boxes: [] });
    else if (name === "box" && of.queries.length && numbers(value)) of.queries.at(-1).boxes.push(numbers(value));
    else if (name === "like" || name === "unlike") of[name].push(value);
    else if (name.includes(".")) addCondition(of, name, value);
    else if (name === "area") of.area = numbers(value);
    else if (name === "cut") of.cut = Number.isFinite(Number(value)) ? Number(value) : null;
    else if (name === "stacks") of.stacks = value !== "0";
    else if (name === "map") of.map = value === "1";
  }
  if (!["name", "time", "time-desc"].includes(of.sort)) of.sort = FIRST.sort;
  if (!["pictures", "ranking"].includes(of.look)) of.look = FIRST.look;
  return of;
}

function addCondition(of, name, value) {
  const [prefix, column] = [name.slice(0, name.indexOf(".")), name.slice(name.indexOf(".") + 1)];
  const key = Object.entries({ ...VALUES, ...LIMITS }).find(([known]) => known === prefix)?.[1];
  if (!column || !key || (key === "has" && !["0", "1"].includes(value))) return;
  const now = columnState(column, of)[key];
  of.columns = withColumn(column, { [key]: Array.isArray(now) ? [...now.filter((one) => one !== value), value] : value }, of);
}

function numbers(text) {
  const found = text.split(",").map(Number);
  return found.length === 4 && found.every(Number.isFinite) ? found : null;
}

// -- what the server is asked for

export function filterParameters(of = state) {
  const parameters = new URLSearchParams();
  for (const key of ["folder", "after", "before", "text"]) if (of[key]) parameters.set(key, of[key]);
  if (of.area) parameters.set("area", of.area.join(","));
  for (const condition of conditions(of.columns)) parameters.append("where", condition);
  return parameters;
}

export function listingParameters(of = state) {
  const parameters = filterParameters(of);
  if (of.stackOf) parameters.set("stack_of", of.stackOf);
  parameters.set("sort", of.sort);
  parameters.set("stacks", of.stacks && !of.stackOf ? "1" : "0");
  return parameters;
}

export function searchFilter(of = state) {
  const filter = {};
  for (const key of ["folder", "after", "before", "area", "text"]) if (of[key]) filter[key] = of[key];
  if (Object.keys(of.columns).length) filter.where = conditions(of.columns);
  return filter;
}
