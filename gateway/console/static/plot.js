// The one place that knows uPlot, which is loaded, its styles too, when the first plot is wanted.
import { h } from "./dom.js";

const SPAN = 900; // seconds: what the gateway keeps; a fixed width, so that a young gateway's few samples are not years apart

let styled = null;

const styles = () => styled ??= new Promise((done) => {
  document.head.append(h("link", { rel: "stylesheet", href: "/console/vendor/uplot.css", onload: done, onerror: done }));
});

const clock = (seconds, exact) => new Date(seconds * 1000).toLocaleTimeString("sv-SE", exact === true ? {} : { timeStyle: "short" });

/** Lines over time: series are [label, colour]; `set` takes times and then a list for each series. */
export async function lines(element, series, unit) {
  const [{ default: UPlot }] = await Promise.all([import("/console/vendor/uplot.js"), styles()]);
  const style = getComputedStyle(document.documentElement);
  const grid = style.getPropertyValue("--line");
  const axis = { stroke: style.getPropertyValue("--dim"), grid: { stroke: grid, width: 1 }, ticks: { stroke: grid } };
  const width = () => element.clientWidth || 300;
  const plot = new UPlot({
    width: width(), height: 180, cursor: { y: false },
    axes: [{ ...axis, values: (_, values) => values.map(clock) }, { ...axis, size: 60, values: (_, values) => values.map((value) => `${value}${unit}`) }],
    scales: { x: { range: (_, low, high) => { const end = high || Date.now() / 1000; return [end - SPAN, end]; } }, y: { range: (_, low, high) => [0, Math.max(high || 0, 0.01) * 1.1] } },
    series: [{ label: "Time", value: (_, value) => value ? clock(value, true) : "--" }, ...series.map(([label, colour]) => ({ label, stroke: style.getPropertyValue(colour), width: 2, spanGaps: true, points: { show: true, size: 4 } }))],
  }, [[], ...series.map(() => [])], element);
  const resized = new ResizeObserver(() => plot.setSize({ width: width(), height: 180 }));
  resized.observe(element);
  return { set: (columns) => plot.setData(columns), end: () => { resized.disconnect(); plot.destroy(); } };
}
