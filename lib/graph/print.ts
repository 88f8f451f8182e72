/**
 * The numbers of a tensor as PyTorch prints them: in brackets and columns, without the middle of
 * long lists.
 *
 * @module
 */

import { type Shape, stridesOf } from "./shape.ts";

/** The most elements that are printed in full; of more, three at each end of an axis of more than six. */
const MOST = 1000;
/** Characters of a line. */
const WIDTH = 80;

/** The largest of numbers, which may be more than a call takes as arguments. */
const largest = (numbers: readonly number[]) => numbers.reduce((a, b) => Math.max(a, b));

/** How numbers are written: whole ones as they are, others with four digits after the point. */
function formatOf(numbers: readonly number[]): (x: number) => string {
  const sizes = numbers.filter((x) => Number.isFinite(x) && x !== 0).map(Math.abs);
  if (sizes.every(Number.isInteger)) return String;
  const most = largest(sizes), least = -largest(sizes.map((x) => -x));
  const exponents = most / least > 1000 || most > 1e8 || least < 1e-4;
  return (x) => {
    if (!Number.isFinite(x)) return String(x);
    return exponents ? x.toExponential(4) : x.toFixed(4);
  };
}

/** Row-major `values` of `shape`. */
export function printed(values: ArrayLike<number>, shape: Shape): string {
  const strides = stridesOf(shape), last = shape.length - 1;
  /** Indices along an axis; undefined for those that are left out. */
  const along = (size: number) => {
    if (values.length <= MOST || size <= 6) return [...Array(size).keys()];
    return [0, 1, 2, undefined, size - 3, size - 2, size - 1];
  };
  const write = (axis: number, at: number, word: (x: number) => string): string => {
    if (axis > last) return word(values[at]!);
    const parts = along(shape[axis]!).map((i) =>
      i === undefined ? "..." : write(axis + 1, at + i * strides[axis]!, word)
    );
    const indent = " ".repeat(axis + 1);
    if (axis < last) return `[${parts.join(`,${"\n".repeat(last - axis)}${indent}`)}]`;
    const each = Math.max(1, Math.floor((WIDTH - axis) / (parts[0]!.length + 2)));
    const lines = parts.map((part, i) =>
      i === 0 ? part : `,${i % each ? " " : `\n${indent}`}${part}`
    );
    return `[${lines.join("")}]`;
  };
  const shown: number[] = [];
  write(0, 0, (x) => `${shown.push(x)}`);
  const format = formatOf(shown), width = largest(shown.map((x) => format(x).length));
  return write(0, 0, (x) => format(x).padStart(width));
}
