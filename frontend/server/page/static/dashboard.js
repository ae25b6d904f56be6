// The dashboard: /metrics read every two seconds, drawn over the last minutes.

import { getText } from "./api.js";
import { byId, h, number } from "./dom.js";
import { Plot } from "./plot.js";
import { gauge, growth, parse, quantile } from "./prometheus.js";

const INTERVAL = 2000;
const SECONDS = 300;
/** Latencies are those of the requests of this many seconds. */
const WINDOW = 30;

const count = (value) => number(value, value > 0 && value < 10 && value % 1 ? 1 : 0);
const share = (value) => `${number(100 * value, value > 0 && value < 0.1 ? 1 : 0)} %`;
const duration = (value) => (value < 1 ? `${number(1000 * value, value < 0.01 && value > 0 ? 1 : 0)} ms` : `${number(value, value < 10 ? 1 : 0)} s`);

/** What is plotted: from the reading before, the one WINDOW seconds before, and now. */
const PLOTS = [
  { title: "Requests", series: ["running", "waiting"], unit: count, of: ({ now }) => [gauge(now, "num_requests_running"), gauge(now, "num_requests_waiting")] },
  { title: "Tokens generated", series: ["per second"], unit: count, of: (at) => [rate(at, "generation_tokens_total")] },
  { title: "Prompt tokens read", series: ["per second"], unit: count, of: (at) => [rate(at, "prompt_tokens_total")] },
  { title: "KV cache in use", series: [""], unit: share, ceiling: 1, of: ({ now }) => [gauge(now, "kv_cache_usage_perc")] },
  { title: "Prefix cache hits", series: ["of prompt tokens"], unit: share, ceiling: 1, of: (at) => [hits(at)] },
  { title: "Time to first token", series: ["p50", "p95"], unit: duration, of: (at) => percentiles(at, "time_to_first_token_seconds") },
  { title: "Time between tokens", series: ["p50", "p95"], unit: duration, of: (at) => percentiles(at, "inter_token_latency_seconds") },
  { title: "Time of a whole request", series: ["p50", "p95"], unit: duration, of: (at) => percentiles(at, "e2e_request_latency_seconds") },
];

function rate({ last, now, seconds }, name) {
  return last ? growth(last, now, name) / seconds : null;
}

function hits({ earlier, now }) {
  const asked = earlier ? growth(earlier, now, "prefix_cache_queries_total") : 0;
  return asked > 0 ? growth(earlier, now, "prefix_cache_hits_total") / asked : null;
}

function percentiles({ earlier, now }, name) {
  return [0.5, 0.95].map((part) => (earlier ? quantile(earlier, now, name, part) : null));
}

export class Dashboard {
  constructor() {
    this.readings = [];
    this.samples = PLOTS.map(() => []);
    this.plots = PLOTS.map((what) => new Plot({ ...what, seconds: SECONDS }));
    byId("plots").append(...this.plots.map((plot) => plot.element));
    this.began = false;
  }

  /** Read from now on, while the page is seen. */
  start() {
    if (this.began) return;
    this.began = true;
    const turn = async () => {
      if (!document.hidden) await this.read();
      setTimeout(turn, INTERVAL);
    };
    turn();
  }

  async read() {
    let reading;
    try {
      reading = { at: performance.now() / 1000, ...parse(await getText("metrics")) };
    } catch (error) {
      byId("dashboard-note").textContent = error.message;
      return;
    }
    this.take(reading);
    this.draw(reading);
  }

  take(reading) {
    const { readings } = this;
    const last = readings[readings.length - 1] ?? null;
    const earlier = readings.find((one) => reading.at - one.at <= WINDOW) ?? last;
    const at = { last, earlier, now: reading, seconds: last ? reading.at - last.at : 1 };
    PLOTS.forEach((what, index) => {
      const samples = this.samples[index].filter((sample) => reading.at - sample.at <= SECONDS);
      this.samples[index] = [...samples, { at: reading.at, values: what.of(at) }];
    });
    this.readings = [...readings.filter((one) => reading.at - one.at <= WINDOW), reading];
  }

  draw(reading) {
    if (byId("dashboard").hidden) return;
    const aged = (sample) => ({ age: reading.at - sample.at, values: sample.values });
    this.plots.forEach((plot, index) => plot.draw(this.samples[index].map(aged)));
    byId("totals").replaceChildren(...totals(reading));
    byId("dashboard-note").textContent = "";
  }
}

function totals(reading) {
  const all = [
    ["requests ended", gauge(reading, "request_success_total")],
    ["tokens generated", gauge(reading, "generation_tokens_total")],
    ["prompt tokens", gauge(reading, "prompt_tokens_total")],
    ["refused, queue full", gauge(reading, "admission_rejections_total")],
    ["preemptions", gauge(reading, "num_preemptions_total")],
    ["engine restarts", gauge(reading, "core_restarts_total")],
  ];
  return all.map(([name, value]) => h("div", {}, h("dt", { text: name }), h("dd", { text: number(value) })));
}
