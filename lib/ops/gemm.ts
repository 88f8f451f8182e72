/**
 * The tiled kernels behind matrix products and convolutions (implicit GEMM: no im2col buffer).
 *
 * - {@link rowTile}: `out[m, n] = Σ_k A(m, k) B[k, n]`, where row m of A is a window of an image.
 * - {@link columnTile}: `out[m, n] = Σ_k A(k, m) B[k, n]`, the weight gradient's form, with the
 *   long sum over pixels split among workgroups.
 *
 * A matrix product is the case of a 1×1 window. A tile of rows × columns of the result stays in
 * registers; each lane loads some of A's vectors and hands them to the others by
 * `subgroupBroadcast` with a constant lane, or keeps all of them when it works alone.
 *
 * Dimension letters: N images, H×W source pixels, C source channels, P×Q result pixels, O columns.
 *
 * @module
 */

import type { KernelSpec, Target } from "../kernel.ts";
import type { Tile } from "../schedule.ts";

/** How windows of a `[N, H, W, C]` source line up with a `[N, P, Q]` grid of results. */
export interface Windows {
  readonly n: number;
  readonly h: number;
  readonly w: number;
  readonly c: number;
  readonly p: number;
  readonly q: number;
  /** Source pixels between neighbouring results. */
  readonly stride: number | readonly [number, number];
  /** Source pixel of result (0, 0) under tap (0, 0). */
  readonly origin: readonly [number, number];
  /** Taps of the window. */
  readonly taps: readonly [number, number];
  /** +1 when the source pixel advances with the tap (forward), -1 when it retreats (gradient). */
  readonly direction: 1 | -1;
}

const times = (count: number, line: (i: number) => string, separator = "\n") =>
  Array.from({ length: count }, (_, i) => line(i)).join(separator);

/** Strides as `[vertical, horizontal]`. */
const both = (stride: Windows["stride"]) => typeof stride === "number" ? [stride, stride] : stride;

/** Whether result pixel m is source pixel m: then no window arithmetic is needed. */
function pointwise(x: Windows): boolean {
  return x.taps[0] * x.taps[1] === 1 && x.h === x.p && x.w === x.q &&
    both(x.stride).every((s) => s === 1) && x.origin.every((o) => o === 0);
}

/** A grid of tiles, n fastest so that neighbours share rows of A, and WGSL to find one's own. */
function tileGrid(tile: Tile, rows: number, columns: number, layers: number, target: Target) {
  const threads = tile.lanes > 1 ? tile.lanes : 64;
  const across = Math.ceil(columns / (4 * tile.vectors * tile.lanes));
  const tiles = Math.ceil(rows / tile.rows) * across;
  const groups = Math.ceil(tiles * tile.lanes / threads);
  const x = Math.min(groups, target.maxWorkgroups);
  const main = `@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let tile = (group.y * groups.x + group.x) * ${threads / tile.lanes}u + local / ${tile.lanes}u;
  if (tile >= ${tiles}u) { return; }
  let lane = local % ${tile.lanes}u;
  let m0 = tile / ${across}u * ${tile.rows}u;
  let n0 = (tile % ${across}u * ${tile.lanes}u + lane) * ${tile.vectors}u;  // in vectors of 4
  // Always 0, but not to a compiler: a driver that unrolls a loop around a tile compiles for minutes.
  let zero = groups.z >> 31u;`;
  return { main, workgroups: [x, Math.ceil(groups / x), layers] as [number, number, number] };
}

const accumulators = (tile: Tile) =>
  times(
    tile.rows,
    (i) => times(tile.vectors, (v) => `  var s${i}_${v} = vec4f(0.0);`, ""),
  );

/** Column vectors of this lane, clamped: a lane past the last column computes but does not store. */
const columns = (tile: Tile, o4: number) =>
  times(tile.vectors, (v) => `  let n_${v} = min(n0 + ${v}u, ${o4 - 1}u);`);

/** WGSL for the value that `lane` of the group holds in `name`. */
const broadcast = (tile: Tile, name: string, lane: number) =>
  tile.lanes > 1 ? `subgroupBroadcast(${name}, ${lane}u)` : name;

/** WGSL that stores row i of the tile, `row` being its vector index without the column. */
function stores(tile: Tile, rows: number, o4: number, row: string, bias: boolean): string {
  return times(tile.rows, (i) => {
    const lines = times(tile.vectors, (v) => {
      const value = bias ? `s${i}_${v} + bias[n_${v}]` : `s${i}_${v}`;
      return `    if (n0 + ${v}u < ${o4}u) { y[row + n0 + ${v}u] = ${value}; }`;
    });
    return `  if (m0 + ${i}u < ${rows}u) {
    let m = m0 + ${i}u;
    let row = ${row};
${lines}
  }`;
  });
}

/** What {@link rowTile} needs besides the windows. */
export interface RowTile {
  /** Result columns; a multiple of 4. */
  readonly o: number;
  /** Independent products, one after the other in every buffer. */
  readonly layers?: number;
  /** WGSL of the row of B (before `* C`) for tap `(r, s)`; default: taps in order. */
  readonly weightTap?: string;
  /** WGSL of the result pixel for row `m`; default: m itself. */
  readonly pixel?: string;
  /** Whether a bias of O values is added. */
  readonly bias?: boolean;
}

/**
 * Bindings: source `[layers, N, H, W, C]`, weights `[layers, taps, C, O]`, maybe bias `[O]`;
 * result `[layers, pixels, O]`.
 */
export function rowTile(x: Windows, spec: RowTile, tile: Tile, target: Target): KernelSpec {
  const { o, layers = 1, weightTap = `r * ${x.taps[1]}u + s`, pixel = "m", bias = false } = spec;
  const rows = x.n * x.p * x.q, o4 = o / 4, vector = x.c % 4 === 0;
  const { main, workgroups } = tileGrid(tile, rows, o, layers, target);
  const loads = Math.ceil(tile.rows / tile.lanes);
  const [sh, sw] = both(x.stride);
  const simple = pointwise(x);
  // Per lane: the rows it loads. A row past the last reads pixel 0 and counts as zero.
  const contexts = times(loads, (j) =>
    `
  let m_${j} = m0 + lane + ${j * tile.lanes}u;
  let in_${j} = m_${j} < ${rows}u;` + (simple ? "" : `
  let h_${j} = i32(m_${j} / ${x.q}u % ${x.p}u * ${sh}u) + (${x.origin[0]});
  let w_${j} = i32(m_${j} % ${x.q}u * ${sw}u) + (${x.origin[1]});
  let i_${j} = i32(m_${j} / ${x.p * x.q}u * ${x.h}u);`));
  const image = layers > 1 ? `group.z * ${x.n * x.h * x.w * x.c / (vector ? 4 : 1)}u + ` : "";
  const weight = layers > 1 ? `group.z * ${x.taps[0] * x.taps[1] * x.c * o4}u + ` : "";
  const sign = x.direction === 1 ? "+" : "-";
  const products = times(
    tile.rows,
    (i) =>
      `        { let t = ${broadcast(tile, `a_${Math.floor(i / tile.lanes)}`, i % tile.lanes)};\n` +
      times(
        tile.vectors,
        (v) =>
          `          s${i}_${v} = s${i}_${v} + t.x * b0_${v} + t.y * b1_${v} + t.z * b2_${v} + t.w * b3_${v};`,
      ) +
      " }",
  );
  const bLoads = (row: (k: number) => string) =>
    times(4, (k) => times(tile.vectors, (v) => `        let b${k}_${v} = w[${row(k)} + n_${v}];`));

  const vectorTaps = `  for (var tap = zero; tap < ${x.taps[0] * x.taps[1]}u + zero; tap++) {
    let r = tap / ${Math.max(1, x.taps[1])}u; let s = tap % ${Math.max(1, x.taps[1])}u;
${
    times(loads, (j) =>
      simple
        ? `      let ok_${j} = in_${j};
      let p_${j} = ${image}select(0u, m_${j} * ${x.c / 4}u, ok_${j});`
        : `      let hh_${j} = h_${j} ${sign} i32(r); let ww_${j} = w_${j} ${sign} i32(s);
      let ok_${j} = in_${j} && hh_${j} >= 0 && hh_${j} < ${x.h} && ww_${j} >= 0 && ww_${j} < ${x.w};
      let p_${j} = ${image}u32(select(0, ((i_${j} + hh_${j}) * ${x.w} + ww_${j}) * ${
          x.c / 4
        }, ok_${j}));`)
  }
      var k = ${weight}(${weightTap}) * ${x.c * o4}u;
      for (var c = zero; c < ${x.c / 4}u + zero; c++) {
${times(loads, (j) => `        let a_${j} = select(vec4f(0.0), x[p_${j} + c], ok_${j});`)}
${bLoads((k) => `k + ${k * o4}u`)}
${products}
        k += ${4 * o4}u;
      }
  }`;
  // Channels are no multiple of 4: a window's row is taps × C consecutive elements of the source.
  const line = x.taps[1] * x.c, last = x.taps[0] * line - 1;
  const scalarTaps = `  for (var r = zero; r < ${x.taps[0]}u + zero; r++) {
${
    times(loads, (j) =>
      simple
        ? `    let row_${j} = ${image}0u; let e_${j} = i32(m_${j}) * ${x.c};
    let ok_${j} = in_${j}; let end_${j} = ${rows * x.c};`
        : `    let hh_${j} = h_${j} + i32(r);
    let ok_${j} = in_${j} && hh_${j} >= 0 && hh_${j} < ${x.h};
    let row_${j} = ${image}u32(select(0, (i_${j} + hh_${j}) * ${x.w * x.c}, ok_${j}));
    let e_${j} = w_${j} * ${x.c}; let end_${j} = ${x.w * x.c};`)
  }
    for (var c = i32(zero); c < ${line} + i32(zero); c += 4) {
${
    times(loads, (j) =>
      `        var a_${j} = vec4f(0.0);\n` + times(4, (k) =>
        `        { let e = e_${j} + c + ${k}; let ok = ok_${j} && c + ${k} < ${line} && e >= 0 && e < end_${j};
          a_${j}[${k}] = select(0.0, x[row_${j} + u32(select(0, e, ok))], ok); }`))
  }
        let k = r * ${line}u + u32(c);
${bLoads((k) => `${weight}min(k + ${k}u, ${last}u) * ${o4}u`)}
${products}
    }
  }`;
  return {
    bindings: [
      { name: "x", type: vector ? "vec4f" : "f32" },
      { name: "w", type: "vec4f" },
      ...bias ? [{ name: "bias", type: "vec4f" } as const] : [],
      { name: "y", type: "vec4f", write: true },
    ],
    body: `${main}
${contexts}
${columns(tile, o4)}
${accumulators(tile)}
${vector ? vectorTaps : scalarTaps}
${stores(tile, rows, o4, `(${layers > 1 ? `group.z * ${rows}u + ` : ""}${pixel}) * ${o4}u`, bias)}
}`,
    workgroups,
    subgroups: tile.lanes > 1,
    flops: 2 * rows * o * x.c * x.taps[0] * x.taps[1] * layers,
  };
}

/** What {@link columnTile} needs besides the windows. */
export interface ColumnTile {
  /** Result columns; a multiple of 4. */
  readonly o: number;
  /** Parts the sum over pixels is split into; each is a layer of the result. */
  readonly splits: number;
  /** Independent products, one after the other in every buffer. */
  readonly layers?: number;
}

/**
 * Bindings: source `[layers, N, H, W, C]`, gradient `[layers, N, P, Q, O]`; result
 * `[layers, splits, taps × C, O]`, to be summed over splits.
 */
export function columnTile(x: Windows, spec: ColumnTile, tile: Tile, target: Target): KernelSpec {
  const { o, splits, layers = 1 } = spec;
  const rows = x.taps[0] * x.taps[1] * x.c, o4 = o / 4, pixels = x.n * x.p * x.q;
  const { main, workgroups } = tileGrid(tile, rows, o, layers * splits, target);
  const [sh, sw] = both(x.stride);
  const simple = pointwise(x);
  const each = Math.ceil(pixels / splits / 4) * 4;
  // A step takes 4 pixels × the tile's rows; `width` elements of A come with one load.
  const width = x.c % 4 === 0 ? 4 : 1;
  const perPixel = tile.rows / width;
  const loads = Math.ceil(4 * perPixel / tile.lanes);
  const c = x.c / width;
  const contexts = times(loads, (j) => `
  let e_${j} = lane + ${j * tile.lanes}u;
  let m_${j} = min(m0 / ${width}u + e_${j} % ${perPixel}u, ${rows / width - 1}u);
  let k_${j} = e_${j} / ${perPixel}u;
  let c_${j} = m_${j} % ${c}u;
  let r_${j} = i32(m_${j} / ${c * x.taps[1]}u) + (${x.origin[0]});
  let t_${j} = i32(m_${j} / ${c}u % ${x.taps[1]}u) + (${x.origin[1]});`);
  const zero = width === 4 ? "vec4f(0.0)" : "0.0";
  const image = layers > 1 ? `layer * ${pixels * c}u + ` : "";
  const aLoads = times(
    loads,
    (j) =>
      simple
        ? `    let at_${j} = k + k_${j}; let ok_${j} = at_${j} < end;
    let a_${j} = select(${zero}, x[${image}select(0u, at_${j} * ${c}u, ok_${j}) + c_${j}], ok_${j});`
        : `    let at_${j} = k + k_${j};
    let h_${j} = i32(at_${j} / ${x.q}u % ${x.p}u * ${sh}u) + r_${j};
    let w_${j} = i32(at_${j} % ${x.q}u * ${sw}u) + t_${j};
    let ok_${j} = at_${j} < end && h_${j} >= 0 && h_${j} < ${x.h} && w_${j} >= 0 && w_${j} < ${x.w};
    let p_${j} = u32(select(0, (i32(at_${j} / ${
          x.p * x.q
        }u * ${x.h}u) + h_${j}) * ${x.w} + w_${j}, ok_${j}));
    let a_${j} = select(${zero}, x[p_${j} * ${c}u + c_${j}], ok_${j});`,
  );
  const bLoads = times(
    4,
    (k) =>
      `    let q${k} = min(k + ${k}u, ${pixels - 1}u)${
        layers > 1 ? ` + layer * ${pixels}u` : ""
      };\n` +
      times(tile.vectors, (v) => `    let b${k}_${v} = g[q${k} * ${o4}u + n_${v}];`),
  );
  /** WGSL of A at pixel k of the step, row i of the tile. */
  const a = (k: number, i: number) => {
    const e = k * perPixel + Math.floor(i / width);
    const name = tile.lanes > 1 ? `t${e}` : `a_${e}`;
    return width === 4 ? `${name}.${"xyzw"[i % 4]}` : name;
  };
  const shared = tile.lanes > 1
    ? times(
      4 * perPixel,
      (e) =>
        `    let t${e} = ${broadcast(tile, `a_${Math.floor(e / tile.lanes)}`, e % tile.lanes)};`,
    )
    : "";
  const products = times(
    tile.rows,
    (i) =>
      times(
        tile.vectors,
        (v) =>
          `    s${i}_${v} = s${i}_${v} + ${times(4, (k) => `${a(k, i)} * b${k}_${v}`, " + ")};`,
      ),
  );
  return {
    bindings: [
      { name: "x", type: width === 4 ? "vec4f" : "f32" },
      { name: "g", type: "vec4f" },
      { name: "y", type: "vec4f", write: true },
    ],
    body: `${main}
  let split = group.z % ${splits}u;
  let layer = group.z / ${splits}u;
  let end = min((split + 1u) * ${each}u, ${pixels}u);
${contexts}
${columns(tile, o4)}
${accumulators(tile)}
  for (var k = split * ${each}u; k < end; k += 4u) {
${aLoads}
${bLoads}
${shared}
${products}
  }
${stores(tile, rows, o4, `(group.z * ${rows}u + m) * ${o4}u`, false)}
}`,
    workgroups,
    subgroups: tile.lanes > 1,
    flops: 2 * rows * o * pixels * layers,
  };
}
