// The photos of the current filter, in order: blocks of rows that are fetched when the grid shows them.

import { isAbort, json } from "./api.js";

const BLOCK = 200; // rows a request
const MOST_BLOCKS = 40; // blocks that are kept in memory

export class Listing {
  // `onRows` is called when rows have come, `onError` with an error of the server.
  constructor(onRows, onError) {
    Object.assign(this, { onRows, onError, total: null, version: null, parameters: null });
    this.blocks = new Map(); // number of the block -> photos, least recently used first
    this.requests = new Map(); // number of the block -> AbortController
  }

  // Begins another listing. Resolves when its first block is there.
  async open(parameters) {
    this.cancel();
    Object.assign(this, { parameters, total: null, version: null });
    this.blocks.clear();
    await this.fetch(0);
  }

  at(row) {
    return this.blocks.get(Math.floor(row / BLOCK))?.[row % BLOCK];
  }

  // The rows that the grid shows: fetches what is missing, and cancels requests for rows that are no longer shown.
  want(first, last) {
    if (this.total === null) return;
    const [from, to] = [Math.floor(first / BLOCK), Math.floor(Math.min(last, this.total - 1) / BLOCK)];
    for (const [number, request] of this.requests) if (number < from - 1 || number > to + 1) request.abort();
    for (let number = from; number <= to; number += 1) {
      const block = this.blocks.get(number);
      if (block) {
        this.blocks.delete(number); // becomes the most recently used
        this.blocks.set(number, block);
      } else if (!this.requests.has(number)) this.fetch(number);
    }
  }

  async fetch(number) {
    const request = new AbortController();
    this.requests.set(number, request);
    try {
      const answer = await this.ask(number, request.signal);
      if (request.signal.aborted) return;
      const changed = this.version !== null && answer.version !== this.version;
      this.keep(number, answer);
      this.onRows(changed);
    } catch (error) {
      if (!isAbort(error) && !request.signal.aborted) this.onError(error);
    } finally {
      if (this.requests.get(number) === request) this.requests.delete(number);
    }
  }

  ask(number, signal) {
    const parameters = new URLSearchParams(this.parameters);
    parameters.set("start", number * BLOCK);
    parameters.set("count", BLOCK);
    return json("photos.json", { parameters, signal });
  }

  keep(number, { total, version, photos }) {
    Object.assign(this, { total, version });
    this.blocks.delete(number);
    this.blocks.set(number, photos);
    for (const oldest of this.blocks.keys()) {
      if (this.blocks.size <= MOST_BLOCKS) break;
      this.blocks.delete(oldest);
    }
  }

  // Fetches the rows anew after the collection has changed; what is shown stays until the new rows are there.
  // Resolves to a function that gives the new row of an old one, by the names of the photos `anchors`.
  async refresh(anchors, rowsShown) {
    const parameters = this.parameters;
    const rows = await Promise.all(anchors.map((name) => this.row(name)));
    if (this.parameters !== parameters) return null;
    const shift = rows[0] === null || rows[0] === undefined ? 0 : rows[0] - rowsShown.anchor;
    const [first, last] = [Math.max(0, rowsShown.first + shift), Math.max(0, rowsShown.last + shift)];
    const numbers = [];
    for (let number = Math.floor(first / BLOCK); number <= Math.floor(last / BLOCK); number += 1) numbers.push(number);
    const answers = await Promise.all(numbers.map((number) => this.ask(number)));
    if (this.parameters !== parameters) return null;
    this.cancel();
    this.blocks.clear();
    answers.forEach((answer, place) => this.keep(numbers[place], answer));
    return rows;
  }

  // The row of a photo; null if the filter leaves it out.
  async row(name) {
    if (this.parameters === null) return null;
    const parameters = new URLSearchParams(this.parameters);
    parameters.set("name", name);
    try {
      return (await json("row.json", { parameters })).row ?? null;
    } catch (error) {
      if ([400, 404].includes(error.status)) return null; // it is not among the photos any more
      throw error;
    }
  }

  // The names of rows first to last, of all rows by default.
  async names(first = 0, last = this.total - 1) {
    const parameters = new URLSearchParams(this.parameters);
    parameters.set("start", first);
    parameters.set("count", last - first + 1);
    return (await json("names.json", { parameters })).names;
  }

  async photo(row) {
    if (!this.at(row)) await this.fetch(Math.floor(row / BLOCK));
    return this.at(row);
  }

  cancel() {
    for (const request of this.requests.values()) request.abort();
    this.requests.clear();
  }
}
