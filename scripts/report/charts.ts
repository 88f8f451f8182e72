// deno-lint-ignore-file no-import-prefix -- If deno.json named it, every task would fetch it.
/**
 * Charts as SVG, drawn by ECharts without a DOM. Text and axes have the colour of the text around
 * (`currentColor`), so one drawing serves light and dark; lines have colours that show on both.
 *
 * @module
 */

// The built file: unlike the sources, it asks for no environment variables.
// @ts-types="npm:echarts@^6.1.0"
import * as echarts from "npm:echarts@^6.1.0/dist/echarts.esm.min.js";
import { plain, xml } from "./text.ts";

const INK = "currentColor";
const LINES = [
  "#2f81f7",
  "#e0731d",
  "#2da44e",
  "#bf4b8a",
  "#8a63d2",
  "#1b9aaa",
  "#b08800",
  "#8b949e",
];
/** Points of a line: more cannot be told apart. */
const MOST_POINTS = 500;

/** A line of a chart. */
export interface Line {
  /** Its name in the legend. */
  readonly name: string;
  /** Where it goes, from left to right. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** Means of neighbours, if there are more points than can be seen. */
export function thin(points: Line["points"], most: number = MOST_POINTS): Line["points"] {
  if (points.length <= most) return points;
  return Array.from({ length: most }, (_, i) => {
    const of = points.slice(
      Math.floor(i * points.length / most),
      Math.floor((i + 1) * points.length / most),
    );
    const mean = (k: 0 | 1) => of.reduce((sum, point) => sum + point[k], 0) / of.length;
    return [mean(0), mean(1)] as const;
  });
}

function draw(width: number, height: number, label: string, option: echarts.EChartsOption): string {
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width, height });
  try {
    chart.setOption({ animation: false, textStyle: { color: INK }, ...option });
    return chart.renderToSVGString()
      // What is only of use to a script or a pointer.
      .replace(/<style\b[^]*?<\/style>\s*/g, "")
      .replace(/ (class="zr\d+-cls-\d+"|ecmeta_\w+="[^"]*"|pointer-events="visible")/g, "")
      .replace("<svg ", `<svg class="plot" role="img" aria-label="${xml(label)}" `);
  } finally {
    chart.dispose();
  }
}

const axis = (name: string) => ({
  name,
  type: "value" as const,
  scale: true,
  nameTextStyle: { color: INK },
  axisLine: { show: true, lineStyle: { color: INK } },
  axisTick: { lineStyle: { color: INK } },
  axisLabel: { color: INK },
  splitLine: { lineStyle: { color: INK, opacity: 0.15 } },
});

/** Lines over `across`, which counts something. */
export function lineChart(title: string, across: string, lines: readonly Line[]): string {
  return draw(600, 300, `${title} by ${across}`, {
    color: LINES,
    title: { text: title, left: "center", textStyle: { color: INK, fontSize: 14 } },
    legend: { bottom: 0, textStyle: { color: INK }, data: lines.map(({ name }) => plain(name)) },
    grid: { left: 60, right: 30, top: 40, bottom: 65 },
    xAxis: { ...axis(across), nameLocation: "middle", nameGap: 26, minInterval: 1 },
    yAxis: axis(""),
    series: lines.map(({ name, points }) => ({
      type: "line",
      name: plain(name),
      data: thin(points).map((point) => [...point]),
      symbol: "circle",
      symbolSize: 5,
      showSymbol: points.length <= 30,
      lineStyle: { width: 1.5 },
      silent: true,
    })),
  });
}

/** A confusion matrix: counts, the right ones on blue, the wrong ones on orange. */
export function heatMap(
  matrix: readonly (readonly number[])[],
  classes: readonly string[],
): string {
  const names = classes.map(plain);
  const cells = matrix.flatMap((row, y) => {
    const images = row.reduce((a, b) => a + b, 0);
    // The root lets rare mistakes be seen.
    return row.map((count, x) => [x, y, Math.sqrt(count / Math.max(1, images)), count] as const);
  });
  const side = Math.min(52, 560 / classes.length);
  const series = (right: boolean) => ({
    type: "heatmap" as const,
    data: cells.filter(([x, y]) => right === (x === y)).map((cell) => [...cell]),
    label: {
      show: true,
      color: INK,
      formatter: ({ value }: { value: unknown }) => `${(value as number[])[3] || ""}`,
    },
    silent: true,
  });
  const shades = (seriesIndex: number, rgb: string) => ({
    show: false,
    seriesIndex,
    dimension: 2,
    min: 0,
    max: 1,
    inRange: { color: [`rgba(${rgb},0)`, `rgba(${rgb},0.6)`] },
  });
  const category = { ...axis(""), type: "category" as const, data: names };
  return draw(130 + classes.length * side, 134 + classes.length * side, "confusion matrix", {
    grid: { left: 110, right: 20, top: 34, bottom: 100 },
    xAxis: {
      ...category,
      name: "predicted",
      nameLocation: "middle",
      nameGap: 82,
      axisLabel: { color: INK, rotate: 45 },
    },
    yAxis: { ...category, inverse: true, name: "true", nameLocation: "start" },
    visualMap: [shades(0, "31,111,235"), shades(1, "219,109,40")],
    series: [series(true), series(false)],
  });
}
