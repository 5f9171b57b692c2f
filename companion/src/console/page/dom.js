// Elements, tables and calls: what all pages are made of. Texts of the server only ever become text nodes.

/** @param {string} name @param {Record<string, any>} [has] @param {...(Node|string|null|undefined)} inside */
export function el(name, has = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(has)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...inside.filter((part) => part !== null && part !== undefined));
  return made;
}

/** A table; heads are [text, isNumber]. Without rows it says so. */
export function table(caption, heads, rows) {
  if (rows.length === 0) return el("p", { class: "dim" }, `${caption}: none`);
  const classOf = (column) => (heads[column][1] ? "number" : null);
  // The roles are told: where the page is narrow, the style makes blocks of the rows of a wide table.
  const head = heads.map(([text], column) => el("th", { scope: "col", role: "columnheader", class: classOf(column) }, text));
  const body = rows.map((row) => el("tr", { role: "row" },
    ...row.map((cell, column) => el("td", { role: "cell", class: classOf(column), "data-head": heads[column][0] }, cell))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", { role: "table", class: heads.length > 3 ? "wide" : null }, el("caption", {}, caption),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head)), el("tbody", { role: "rowgroup" }, ...body)));
}

/** Numbers that are read first, each with its name. */
export function figures(pairs) {
  return el("dl", { class: "figures" },
    ...pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

export const accountLink = (key) => el("a", { href: `#account?${encodeURIComponent(key)}` }, key);

export function duration(ms) {
  if (ms < 0) return "never";
  if (ms === 0) return "0 s";
  const [size, unit] = [[86_400_000, "d"], [3_600_000, "h"], [60_000, "min"], [1_000, "s"]].find(([size]) => ms >= size)
    ?? [1, "ms"];
  return `${Number((ms / size).toFixed(1))} ${unit}`;
}

export function bytes(count) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit += 1) count /= 1024;
  return `${Number(count.toFixed(1))} ${units[unit]}`;
}

/** Who looks: the role, what proves that an action was sent from here, and whether there is anything to sign out of. */
export const session = { role: null, csrf: "", signed_in: false };

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function call(path, body) {
  const headers = { "content-type": "application/json", "x-gw-csrf": session.csrf };
  const request = body === undefined ? {} : { method: "POST", headers, body: JSON.stringify(body) };
  const response = await fetch(`/console/api/${path}`, request);
  const answer = await response.json();
  if (!response.ok) throw new Refused(response.status, answer.error ?? response.statusText);
  return answer;
}

export function say(text) {
  document.getElementById("status").textContent = text;
}
