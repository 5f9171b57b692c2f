// Which page is shown, and who may see it.
import { Refused, call, el, say, session } from "./dom.js";
import { PAGES } from "./pages.js";

const main = document.getElementById("content");
let shown = null;
let turn = 0;

function navigation(name) {
  const links = Object.entries(PAGES).map(([key, page]) =>
    el("a", { href: `#${key}`, "aria-current": key === name ? "page" : null }, page.title));
  document.getElementById("nav").replaceChildren(...(session.role ? links : []));
}

async function signIn(event) {
  event.preventDefault();
  try {
    await call("sign-in", { token: event.target.elements.token.value });
    say("");
    await start();
  } catch (error) {
    say(error.message);
  }
}

function askForToken() {
  session.role = null;
  navigation("");
  document.getElementById("who").replaceChildren();
  main.replaceChildren(el("h1", {}, "Sign in"), el("form", { onsubmit: signIn },
    el("input", { name: "token", type: "password", "aria-label": "Token", placeholder: "token",
      autocomplete: "current-password" }), el("button", {}, "Sign in")));
}

function failed(error) {
  if (error instanceof Refused && error.status === 401) askForToken();
  else say(`${error.message}; trying again`);
}

async function route() {
  const mine = (turn += 1);
  shown?.end();
  shown = null;
  const [name, argument] = location.hash.slice(1).split("?");
  const page = PAGES[name] ?? PAGES.now;
  navigation(PAGES[name] ? name : "now");
  document.title = `${page.title} – redis-gateway`;
  const place = el("div");
  main.replaceChildren(place);
  say("");
  let is = null;
  while (turn === mine) {
    try {
      if (is) await is.again();
      else {
        is = await page.show(place, argument && decodeURIComponent(argument));
        // Another page was asked for meanwhile.
        if (turn !== mine) is.end();
        else shown = is;
      }
    } catch (error) {
      if (turn === mine) failed(error);
      if (!session.role) return;
    }
    await new Promise((done) => { setTimeout(done, page.refresh); });
  }
}

async function start() {
  try {
    Object.assign(session, await call("session"));
  } catch (error) {
    failed(error);
    return;
  }
  const out = el("button", { onclick: async () => { turn += 1; await call("sign-out", {}); location.reload(); } }, "Sign out");
  document.getElementById("who").replaceChildren(session.role, " ", ...(session.signed_in ? [out] : []));
  await route();
}

window.addEventListener("hashchange", () => { if (session.role) route(); });
start();
