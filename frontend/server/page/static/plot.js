// A line plot in SVG: a few series over the last minutes, with the value under the pointer.

import { h, svg } from "./dom.js";

const WIDTH = 320;
const HEIGHT = 124;
const LEFT = 50;
const BOTTOM = 20;
const TOP = 8;

export class Plot {
  /**
   * @param {{title: string, series: string[], unit: (value: number) => string, ceiling?: number, seconds: number}} what
   */
  constructor(what) {
    this.what = what;
    this.now = h("div", { class: "plot-now" });
    this.canvas = svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": what.title });
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.draw(this.samples));
    this.element = h("section", { class: "card" }, h("h2", { text: what.title }), this.now, this.canvas);
    this.samples = [];
  }

  /** @param samples [{age: seconds ago, values: (number|null)[]}], oldest first */
  draw(samples) {
    this.samples = samples;
    const ceiling = this.ceiling(samples);
    const lines = this.what.series.map((_, at) => svg("path", { class: `line s${at}`, d: this.path(samples, at, ceiling) }));
    this.canvas.replaceChildren(...this.axes(ceiling), ...lines);
    const last = samples[samples.length - 1];
    this.say(last ? last.values : this.what.series.map(() => null));
    this.canvas.setAttribute("aria-label", `${this.what.title}: ${this.now.textContent}`);
  }

  say(values, when = "") {
    const several = this.what.series.length > 1;
    const parts = this.what.series.map((name, at) => {
      const value = h("strong", { text: values[at] === null ? "–" : this.what.unit(values[at]) });
      return h("span", { class: `value s${at}` }, value, name ? h("small", { class: several ? "legend" : null, text: ` ${name}` }) : null);
    });
    this.now.replaceChildren(...parts, when ? h("small", { class: "when", text: when }) : "");
  }

  ceiling(samples) {
    if (this.what.ceiling) return this.what.ceiling;
    const highest = Math.max(0, ...samples.flatMap((sample) => sample.values.filter((value) => value !== null)));
    return rounded(highest);
  }

  x(age) {
    return WIDTH - 2 - (age / this.what.seconds) * (WIDTH - LEFT - 2);
  }

  y(value, ceiling) {
    return HEIGHT - BOTTOM - (Math.min(value, ceiling) / ceiling) * (HEIGHT - BOTTOM - TOP);
  }

  path(samples, at, ceiling) {
    let pen = "M";
    const steps = [];
    for (const { age, values } of samples) {
      if (values[at] === null) pen = "M";
      else {
        steps.push(`${pen}${this.x(age).toFixed(1)} ${this.y(values[at], ceiling).toFixed(1)}`);
        pen = "L";
      }
    }
    return steps.join("");
  }

  axes(ceiling) {
    const marks = [0, ceiling / 2, ceiling].map((value) => {
      const y = this.y(value, ceiling);
      const line = svg("line", { class: "grid", x1: LEFT, x2: WIDTH - 2, y1: y, y2: y });
      return svg("g", {}, line, svg("text", { x: LEFT - 5, y: y + 4, "text-anchor": "end", text: this.what.unit(value) }));
    });
    const minutes = this.what.seconds / 60;
    const times = [
      svg("text", { x: LEFT, y: HEIGHT - 4, text: `${minutes} min ago` }),
      svg("text", { x: WIDTH - 2, y: HEIGHT - 4, "text-anchor": "end", text: "now" }),
    ];
    return [...marks, ...times];
  }

  /** Show the values at the pointer instead of the last ones. */
  point(event) {
    if (!this.samples.length) return;
    const box = this.canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDTH;
    const distance = (sample) => Math.abs(this.x(sample.age) - x);
    const nearest = this.samples.reduce((best, sample) => (distance(sample) < distance(best) ? sample : best));
    this.say(nearest.values, `${Math.round(nearest.age)} s ago`);
  }
}

/** The next of 1, 2, 5, 10, ... that is not below a value. */
function rounded(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999999);
}
