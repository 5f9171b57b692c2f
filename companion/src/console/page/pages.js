// The pages: each answers one question. `show` fills the page once; `refresh` is how often it asks again, in ms.
import { accountLink, bytes, call, duration, el, figures, say, session, table } from "./dom.js";

const two = (number) => Number(number.toFixed(2)).toString();
const percent = (part) => (part === null || part === undefined ? "–" : `${(part * 100).toFixed(1)} %`);
const heading = (text) => el("h1", {}, text);

// ---- Now

/** Title, the largest value if there is one, and of each line: its name, its field, its colour, and how it is shown. */
const CHARTS = [
  ["Calls a second", null, [["admitted", "admitted_per_second", "--good"], ["refused", "refused_per_second", "--bad"]]],
  ["USD a minute", null, [["charged", "usd_per_minute", "--accent"]]],
  ["USD saved by the cache", null, [["saved", "usd_saved", "--good"]]],
  ["Cache hit rate, %", 100, [["hits", "hit_rate", "--accent", (part) => (part === null ? null : part * 100)]]],
  ["Oldest log record, s", null, [["age", "oldest_age_s", "--bad"]]],
];

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

function chart(place, max, series, points) {
  // Colours are looked up with each drawing: the browser may go from light to dark.
  const axis = { stroke: () => color("--dim"), grid: { stroke: () => color("--line"), width: 1 }, ticks: { show: false } };
  const times = { ...axis, space: 90, size: 30, values: (_, ticks) => ticks.map((tick) => clock.format(tick * 1000)) };
  const columns = (points) => [points.map((point) => point.at),
    ...series.map(([, field, , of]) => points.map((point) => (of ? of(point[field]) : point[field])))];
  const size = () => ({ width: place.clientWidth || 320, height: 150 });
  const plot = new window.uPlot({
    ...size(), cursor: { show: false }, legend: { show: series.length > 1, live: false }, axes: [times, { ...axis, size: 52 }],
    scales: { y: { range: (_, __, most) => [0, max ?? (most > 0 ? most * 1.1 : 1)] } },
    series: [{}, ...series.map(([label, , name]) =>
      ({ label, stroke: () => color(name), width: 2, spanGaps: false, points: { show: false } }))],
  }, columns(points), place);
  const resized = new ResizeObserver(() => plot.setSize(size()));
  resized.observe(place);
  const colors = window.matchMedia("(prefers-color-scheme: dark)");
  const redraw = () => plot.redraw();
  colors.addEventListener("change", redraw);
  return {
    set: (points) => plot.setData(columns(points)),
    end: () => { resized.disconnect(); colors.removeEventListener("change", redraw); plot.destroy(); },
  };
}

const rates = (sample) => sample.rates.map((rate) =>
  [rate.what, two(rate.admitted_per_second), two(rate.refused_per_second)]);

const now = {
  title: "Now", refresh: 2000,
  async show(page) {
    let { points, sample } = await call("now");
    const [top, lower] = [el("div"), el("div")];
    const places = CHARTS.map(([caption]) => el("figure", {}, el("figcaption", {}, caption)));
    page.append(heading("What happens now"), top, el("div", { class: "charts" }, ...places), lower);
    const plots = CHARTS.map(([, max, series], index) => chart(places[index], max, series, points));
    const fill = () => {
      if (!sample) {
        top.replaceChildren(el("p", { class: "dim" }, "The first sample is being taken."));
        return;
      }
      const last = points.at(-1);
      top.replaceChildren(figures([
        ["admitted a second", two(last.admitted_per_second)], ["refused a second", two(last.refused_per_second)],
        ["USD a minute", sample.usd_per_minute], ["USD saved", sample.usd_saved],
        ["cache hit rate", percent(sample.hit_rate)], ["oldest log record", duration(last.oldest_age_s * 1000)],
      ]));
      lower.replaceChildren(
        el("h2", {}, "By kind"),
        table("Calls a second", [["asked for"], ["admitted", true], ["refused", true]], rates(sample)),
        el("h2", {}, "Refused by"),
        table("Refusals in the last minute", [["policy or command"], ["refusals", true]],
          sample.refused_by.map(([by, count]) => [by, String(count)])));
    };
    fill();
    return {
      async again() {
        const more = await call(`now?since=${points.at(-1)?.at ?? 0}`);
        points = [...points, ...more.points].slice(-900);
        sample = more.sample;
        plots.forEach((plot) => plot.set(points));
        fill();
      },
      end: () => plots.forEach((plot) => plot.end()),
    };
  },
};

/** A page that is drawn anew with each answer. */
const drawn = (title, refresh, ask, draw) => ({
  title, refresh,
  async show(page, argument) {
    const fill = async () => page.replaceChildren(...draw(await ask(argument), fill, argument));
    // Nothing is taken from under somebody who types, or goes through it by keyboard.
    const isUsed = () => page.contains(document.activeElement?.closest("input, select, textarea, button, a") ?? null);
    await fill();
    return { again: async () => { if (!isUsed()) await fill(); }, end: () => {} };
  },
});

// ---- Refusals, spenders

const refusals = drawn("Refusals", 5000, () => call("now?since=9e15"), ({ sample }) => [
  heading("Who is refused, and why"),
  table("The keys that were refused most", [["key"], ["refused by"], ["last minute", true], ["last hour", true]],
    (sample?.refused ?? []).map((row) =>
      [accountLink(row.key), row.by, String(row.last_minute), String(row.last_hour)])),
]);

function budget(row, hourly) {
  const [limit, used, left] = [row.limit, row.used, row.remaining].map(Number);
  const part = limit > 0 ? Math.min(used / limit, 1) : 1;
  const text = `${row.name}: ${row.used} of ${row.limit} ${row.meter}`;
  const ms = hourly > 0 ? (left / hourly) * 3_600_000 : Infinity;
  const lasts = left <= 0 ? el("span", { class: "bad" }, "exhausted")
    : row.meter === "usd" && (row.reset_after_ms < 0 || ms < row.reset_after_ms) && ms < Infinity
      ? el("span", { class: "bad" }, `exhausted in ${duration(ms)} at the last hour's pace`)
      : el("span", { class: "dim" }, "lasts at the last hour's pace");
  return el("div", {}, `${text} (${Math.round(part * 100)} %)`,
    el("meter", { min: 0, max: 1, high: 0.8, optimum: 0, value: part, "aria-label": text }), lasts);
}

const spenders = drawn("Spenders", 5000, () => call("spenders"), (rows) => [
  heading("Who spends most"),
  table("USD by key", [["key"], ["budgets"], ["last minute", true], ["last hour", true]],
    rows.map((row) => [accountLink(row.key),
      row.budgets.length ? el("div", {}, ...row.budgets.map((one) => budget(one, Number(row.hour)))) : "none",
      row.minute, row.hour])),
]);

// ---- Account

/** 128 random bits. */
const random = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16).padStart(8, "0")).join("");

/** A form that gives a credit. Its id stays the same until it was given: a retry then gives it once. */
function creditForm(key, ledgers, again) {
  let id = random();
  const choice = (name, label, values, chosen) => el("select", { name, "aria-label": label },
    ...values.map((value) => el("option", { value, selected: value === chosen }, value)));
  const give = async (event) => {
    event.preventDefault();
    const { period, meter, amount } = event.target.elements;
    const body = { key, period: period.value, meter: meter.value, amount: amount.value, id };
    const question = `Give ${key} a credit of ${body.amount} ${body.meter}, ${body.period}?`;
    if (await act("account/credit", body, question,
      ({ credit }) => `${key}: the credit is ${credit} ${body.meter} now, ${body.period}`)) {
      id = random();
      document.activeElement?.blur();
      await again();
    }
  };
  const meters = [...new Set(["usd", ...ledgers.map((one) => one.meter)])];
  return el("form", { class: "action", onsubmit: give },
    el("input", { name: "amount", "aria-label": "Amount of the credit", placeholder: "amount, below 0 to take back",
      inputmode: "decimal", required: true, autocomplete: "off" }),
    choice("meter", "Meter of the credit", meters, "usd"),
    choice("period", "Period of the credit", ["DAY", "WEEK", "MONTH", "TOTAL"], "MONTH"),
    el("button", {}, "Give credit"));
}

/** A form that sets all policies of an account, as GW.POLICYPUT takes them. */
function policiesForm(key, text, again) {
  const set = async (event) => {
    event.preventDefault();
    const body = { key, document: event.target.elements.document.value };
    if (await act("account/policies", body, `Set the policies of ${key}? Those that are not named go.`,
      ({ changed }) => (changed ? `the policies of ${key} are set` : `${key} has these policies already`))) {
      document.activeElement?.blur();
      await again();
    }
  };
  const lines = JSON.stringify(JSON.parse(text), null, 2);
  return el("form", { class: "text", onsubmit: set },
    el("textarea", { name: "document", "aria-label": "Policies as JSON", rows: Math.min(lines.split("\n").length + 1, 30),
      spellcheck: "false", autocomplete: "off" }, lines),
    el("button", {}, "Set policies"));
}

/** What an operator may change of it. */
function changes(key, found, again) {
  if (session.role !== "operator") return [];
  return [
    el("h2", {}, "Give a credit"), creditForm(key, found.ledgers, again),
    el("h2", {}, "Change the policies"), policiesForm(key, found.document ?? '{"policies":[]}', again),
  ];
}

function find(key) {
  const input = el("input", { id: "key", name: "key", value: key, "aria-label": "Key of an account or ledger",
    placeholder: "key of an account or ledger", autocomplete: "off", spellcheck: "false" });
  const go = (event) => {
    event.preventDefault();
    location.hash = `account?${encodeURIComponent(input.value)}`;
  };
  return el("form", { onsubmit: go }, input, el("button", {}, "Show"));
}

const policyRow = (row) => [row.name, row.kind?.toLowerCase() ?? "", row.meter ?? "",
  row.used ?? "", row.limit, row.remaining,
  row.allowed ? el("span", { class: "good" }, "allows")
    : el("span", { class: "bad" }, `refuses, ${row.retry_after_ms < 0 ? "waiting does not help" : `for ${duration(row.retry_after_ms)}`}`)];

function holding(found) {
  const policies = found.policies ?? [];
  const parts = [
    figures([
      ...(found.ledgers.flatMap((one) => [[`${one.meter} today`, one.day], [`${one.meter} this month`, one.month],
        [`${one.meter} held`, one.held]])),
      ...(found.in_flight === undefined ? [] : [["in flight", String(found.in_flight)]]),
      ["memory", bytes(found.bytes)],
    ]),
  ];
  if (found.cooldown_ms > 0) parts.push(el("p", { class: "bad" }, `cooling down for ${duration(found.cooldown_ms)}`));
  if (found.type === "account") {
    parts.push(
      el("h2", {}, "Policies"),
      table("What each policy would say to a request now", [["policy"], ["kind"], ["meter"], ["used", true],
        ["limit", true], ["left", true], ["now"]], policies.map(policyRow)),
      el("h2", {}, "Leases in flight"),
      table("The first to end", [["lease"], ["ends in", true]], found.leases.map(([id, ms]) => [id, duration(ms)])));
  } else {
    parts.push(el("h2", {}, "Holds"),
      table("The first to end", [["hold"], ["estimate", true], ["ends in", true]],
        found.holds.map(([id, amount, ms]) => [id, amount, duration(ms)])));
  }
  const days = found.days.filter(([, amount]) => Number(amount) !== 0);
  parts.push(el("h2", {}, "By day"), table("USD in the last 30 days", [["day"], ["USD", true]], days));
  return parts;
}

const account = drawn("Account", 5000,
  (key) => (key ? call(`account?key=${encodeURIComponent(key)}`) : undefined),
  (found, again, key = "") => [
    heading(key || "An account"), find(key),
    ...(found === undefined ? [] : found === null || found.type === "other"
      ? [el("p", { class: "dim" }, found === null ? "There is no such key." : "The key holds neither an account nor a ledger.")]
      : [...holding(found), ...changes(key, found, again)]),
  ]);

// ---- Queues

/** Asks whether to act, acts, and says what came of it. Returns whether it was done. */
async function act(path, body, question, done) {
  if (!window.confirm(question)) return false;
  try {
    say(done(await call(path, body)));
    return true;
  } catch (error) {
    say(error.message);
    return false;
  }
}

function actions(key, batch, again) {
  const of = batch === "ALL" ? `all dead letters of ${key}` : `batch ${batch}`;
  const button = (action, text, look) => el("button", { class: look, onclick: async () => {
    await act("queue", { key, batch, action }, `${text} ${of}?`, ({ batches }) => `${text}: ${batches} done`);
    await again();
  } }, text, el("span", { class: "dim" }, batch === "ALL" ? " all" : ""));
  return el("div", {}, button("requeue", "Requeue", null), " ", button("drop", "Drop", "bad"));
}

/** What the names of the queues that are shown contain. */
let wanted = "";

function filter(again) {
  const set = (event) => {
    event.preventDefault();
    wanted = event.target.elements.part.value;
    document.activeElement?.blur();
    again();
  };
  return el("form", { onsubmit: set }, el("input", { name: "part", value: wanted, "aria-label": "Part of a queue's key",
    placeholder: "part of a key", autocomplete: "off", spellcheck: "false" }), el("button", {}, "Filter"));
}

/** Dead letters, and what waits. */
const opened = (key, open, again) => [
  el("h2", {}, `Dead letters of ${key}`),
  ...(open.dead.length > 1 ? [actions(key, "ALL", again)] : []),
  table("The oldest first", [["records"], ["batch"], ["delivery", true], ["action"]],
    open.dead.map((batch) => [el("div", {}, ...batch.records.map((text) => el("pre", {}, text)),
      batch.count > batch.records.length ? `and ${batch.count - batch.records.length} more` : null),
      batch.batch, String(batch.delivery), actions(key, batch.batch, again)])),
  el("h2", {}, `Waiting in ${key}`),
  ...(open.waiting.length ? open.waiting.map((text) => el("pre", {}, text)) : [el("p", { class: "dim" }, "none")]),
];

const queues = drawn("Queues", 5000,
  async (key) => ({ ...(await call("now?since=9e15")),
    open: key && session.role === "operator" ? await call(`queue?key=${encodeURIComponent(key)}`) : null }),
  ({ sample, open }, again, key) => [
    heading("Log queues and dead letters"),
    ...(key && !open ? [el("p", { class: "dim" }, "Records are shown to operators.")] : []),
    ...(open ? opened(key, open, again) : []),
    el("h2", {}, "All queues"),
    ...((sample?.queues ?? []).length > 20 || wanted ? [filter(again)] : []),
    table("Those with dead letters first, then by the oldest record", [["queue"], ["waiting", true], ["leased", true], ["dead", true],
      ["oldest", true], ["in a minute", true], ["acknowledged", true]],
      (sample?.queues ?? []).filter((row) => row.key.includes(wanted))
        .sort((one, other) => Number(other.dead > 0) - Number(one.dead > 0)).map((row) => [el("a", { href: `#queues?${encodeURIComponent(row.key)}` }, row.key),
        String(row.length), String(row.leased), el("span", { class: row.dead > 0 ? "bad" : null }, String(row.dead)),
        duration(row.oldest_age_ms), String(row.pushed_per_minute), String(row.acked_per_minute)])),
    ...(sample?.more_queues ? [el("p", { class: "dim" }, `and ${sample.more_queues} more queues`)] : []),
  ]);

// ---- Cache, nodes

const cache = drawn("Cache", 5000, () => call("cache"), (rows, again) => [
  heading("Response cache by category"),
  table("Since the nodes' start", [["category"], ["hit rate", true], ["hits", true], ["misses", true],
    ["entries", true], ["memory", true], ["USD saved", true], ...(session.role === "operator" ? [["action"]] : [])],
    rows.map((row) => [row.category, percent(row.hits + row.misses ? row.hits / (row.hits + row.misses) : null),
      String(row.hits), String(row.misses), String(row.entries), bytes(row.bytes), row.saved,
      ...(session.role === "operator" ? [el("button", { class: "bad", onclick: async () => {
        await act("cache/clear", { category: row.category }, `Clear all ${row.entries} entries of ${row.category}?`,
          ({ entries }) => `${row.category}: ${entries} entries cleared`);
        await again();
      } }, "Clear")] : [])])),
]);

const nodes = drawn("Nodes", 5000, () => call("nodes"), (rows) => [
  heading("Primaries and their replicas"),
  table("Nodes", [["node"], ["role"], ["state"], ["behind", true], ["last heard", true]],
    rows.flatMap((node) => [[node.address, "primary", node.replicas === null ? "replicas unknown: INFO is not permitted" : "", "", ""],
      ...(node.replicas ?? []).map((one) => [one.address, "replica", one.state, bytes(one.behind_bytes),
        one.lag_s === null ? "" : `${one.lag_s} s ago`])])),
]);

export const PAGES = { now, refusals, spenders, account, queues, cache, nodes };
