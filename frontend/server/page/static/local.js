// Small things kept in this browser; where it keeps nothing for the page, they last until the page is closed.

const forgotten = new Map();

export function recall(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return forgotten.get(name) ?? null;
  }
}

/** Keep a text under a name; null forgets it. */
export function remember(name, text) {
  try {
    if (text === null) localStorage.removeItem(name);
    else localStorage.setItem(name, text);
  } catch {
    forgotten.set(name, text);
  }
}

/** What was kept as JSON; {} where there is none, or none that can be read. */
export function recallObject(name) {
  try {
    const value = JSON.parse(recall(name) ?? "{}");
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {};
  }
}
