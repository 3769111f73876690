// Requests to the server, and its failures as sentences that say what to do. All addresses are relative to the page.

// The server is not reachable: the page shows it, and reconnects by itself.
export class GoneError extends Error {}

// The server answers with an error.
export class AnswerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const GONE = "The server does not answer. If it was stopped, start it again with the same command: this page then continues by itself.";

const connection = { gone: false, listener: () => {} };

export const isGone = () => connection.gone;

// `listener` is called with true when the server is gone, and with false when it is back.
export function onConnection(listener) {
  connection.listener = listener;
}

export async function json(path, { parameters = null, signal, body } = {}) {
  const address = parameters && String(parameters) ? `${path}?${parameters}` : path;
  const options = { signal, cache: "no-store" };
  if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  const answer = await send(address, options);
  if (!answer.ok) throw new AnswerError(await reason(answer), answer.status);
  try {
    return await answer.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new AnswerError("The server's answer is not complete. Load the page again.", answer.status);
  }
}

async function send(address, options) {
  try {
    const answer = await fetch(address, options);
    setGone(false);
    if (answer.status === 401) location.reload(); // shows the form for the token
    return answer;
  } catch (error) {
    if (options.signal?.aborted) throw error;
    setGone(true);
    throw new GoneError(GONE);
  }
}

function setGone(gone) {
  if (gone === connection.gone) return;
  connection.gone = gone;
  connection.listener(gone);
}

async function reason(answer) {
  const document = await answer.json().catch(() => ({}));
  if (typeof document.error === "string" && document.error) return document.error;
  if ([429, 503, 504].includes(answer.status)) return "The server is busy. Try again in a moment.";
  if (answer.status === 413) return "This file is too large for the server. Choose a smaller version of the photo.";
  return `The server answers with error ${answer.status}. Its terminal says more.`;
}

export const isAbort = (error) => error?.name === "AbortError";

// -- pictures: slashes stay in the address, since some proxies refuse them encoded

const path = (name) => name.split("/").map(encodeURIComponent).join("/");

export const photoAddress = (name) => `photos/${path(name)}`;

export const thumbnailAddress = (name, pixels = 256) =>
  `thumbnails/${path(name)}?side=${pixels * Math.min(devicePixelRatio, 2) > 300 ? 512 : 256}`;

// -- uploads

export function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new AnswerError("The browser cannot read this file. Choose it again."));
    reader.readAsDataURL(file);
  });
}
