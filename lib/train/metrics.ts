/**
 * What a classifier got right and what wrong: the confusion matrix, precision and recall by class,
 * the mistakes it was surest of.
 *
 * @module
 */

import { checkNumber, checkNumbers, checkObject, checkString, refuse } from "../check/arguments.ts";
import { type Cell, displayed, htmlTable, shownAs } from "../check/display.ts";
import { brief, table } from "../check/text.ts";

/** The most classes of a confusion matrix, which has a number for each two of them. */
const MOST_ROWS = 4096;
/** The most classes. */
const MOST_CLASSES = 2 ** 20;

/** A net's prediction for each image of a data set. */
export interface Predictions {
  /** The class with the largest logit; the first of equal ones. */
  readonly predicted: ArrayLike<number>;
  /** The softmax probability of that class; NaN if a logit is NaN, or the largest is infinite. */
  readonly probability: ArrayLike<number>;
}

/**
 * The names of what may be predicted: of the classes, and then, as numbers, of outputs that stand for
 * none, as far as one was `predicted`. A net may have more outputs than there are classes.
 */
export function outputNames(
  classes: readonly string[],
  predicted: ArrayLike<number>,
): readonly string[] {
  let count = classes.length;
  for (let i = 0; i < predicted.length; i++) count = Math.max(count, predicted[i]! + 1);
  return Array.from({ length: count }, (_, label) => classes[label] ?? `${label}`);
}

/** Throws unless each label and prediction, arguments of `op`, is one of so many classes. */
function checkPredicted(
  op: string,
  labels: ArrayLike<number>,
  predicted: ArrayLike<number>,
  classes: number,
  most: number,
): void {
  checkNumbers(op, "labels", labels);
  checkNumbers(op, "predicted", predicted);
  checkNumber(op, "classes", classes, { integer: true, min: 1, max: most });
  if (labels.length !== predicted.length) {
    throw new RangeError(`${op}: ${labels.length} labels and ${predicted.length} predictions`);
  }
  const isClass = (x: number) => Number.isInteger(x) && x >= 0 && x < classes;
  for (let i = 0; i < labels.length; i++) {
    if (isClass(labels[i]!) && isClass(predicted[i]!)) continue;
    throw new RangeError(
      `${op}: image ${i} has label ${labels[i]} and prediction ${predicted[i]}, and there are ` +
        `${classes} classes`,
    );
  }
}

/**
 * The confusion matrix: `matrix[label][prediction]` is a number of images. `classes` is the number
 * of classes, at most 4096, or their names, which a notebook then shows.
 *
 * @throws {ArgumentError} if labels or predictions are no numbers, or `classes` is no such number
 * or names.
 * @throws {RangeError} if the lists differ in length, or have an entry that is none of the classes.
 *
 * @example
 * ```ts
 * import { confusionMatrix } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const matrix = confusionMatrix([2, 0, 2, 2, 0, 1], [0, 0, 2, 2, 0, 2], 3);
 * assertEquals(matrix, [[2, 0, 0], [0, 0, 1], [1, 0, 2]]);
 * ```
 */
export function confusionMatrix(
  labels: ArrayLike<number>,
  predicted: ArrayLike<number>,
  classes: number | readonly string[],
): number[][] {
  const names = Array.isArray(classes) ? classes : undefined;
  names?.forEach((name, i) => checkString("confusionMatrix", `classes[${i}]`, name));
  const size = names ? names.length : classes as number;
  checkPredicted("confusionMatrix", labels, predicted, size, MOST_ROWS);
  const matrix = Array.from({ length: size }, () => new Array<number>(size).fill(0));
  for (let i = 0; i < labels.length; i++) {
    matrix[labels[i]!]![predicted[i]!]!++;
  }
  return displayed(matrix, (matrix) => showMatrix(matrix, names ?? [...matrix.keys()].map(String)));
}

/** The most classes of a matrix that a notebook shows whole. */
const MOST_SHOWN = 40;

/** A confusion matrix: labels down, predictions across; the right ones on blue, the wrong on orange. */
function showMatrix(
  matrix: readonly (readonly number[])[],
  classes: readonly string[],
): Record<string, string> {
  const sums = matrix.map((row) => row.reduce((a, b) => a + b, 0));
  const right = matrix.reduce((sum, row, k) => sum + row[k]!, 0);
  const all = sums.reduce((a, b) => a + b, 0);
  const total = `${right} of ${all} images are right, of ${classes.length} classes`;
  if (classes.length > MOST_SHOWN) return shownAs(total, total);
  const names = classes.map((name) => brief(name, 20));
  const cells = matrix.map((row, y): Cell[] => [
    names[y]!,
    ...row.map((count, x) => {
      // The root lets rare mistakes be seen.
      const shade = 0.6 * Math.sqrt(count / Math.max(1, sums[y]!));
      const color = `rgba(${x === y ? "31,111,235" : "219,109,40"},${shade.toFixed(2)})`;
      return { text: count === 0 ? "" : `${count}`, color };
    }),
  ]);
  const heads = ["true \\ predicted", ...names];
  const rows = matrix.map((row, y) => [names[y]!, ...row.map(String)]);
  return shownAs(`${table([heads, ...rows])}\n${total}`, `${htmlTable(heads, cells)}${total}`);
}

/** How well a class is told from the others. A share of no images is NaN. */
export interface ClassMetrics {
  /** Of the images that were taken for this class, the share that is of it. */
  readonly precision: number;
  /** Of the images of this class, the share that was taken for it. */
  readonly recall: number;
  /** Harmonic mean of precision and recall. */
  readonly f1: number;
  /** Number of images of this class. */
  readonly images: number;
}

/**
 * Precision, recall and F1 of each class; `classes` is their number.
 *
 * @throws {ArgumentError} if labels or predictions are no numbers, or `classes` is no such number.
 * @throws {RangeError} if the lists differ in length, or have an entry that is none of the classes.
 *
 * @example
 * ```ts
 * import { classMetrics } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const [first] = classMetrics([0, 1, 2, 2, 2], [0, 0, 2, 2, 1], 3);
 * assertEquals(first!.precision, 0.5);
 * assertEquals(first!.recall, 1);
 * ```
 */
export function classMetrics(
  labels: ArrayLike<number>,
  predicted: ArrayLike<number>,
  classes: number,
): ClassMetrics[] {
  checkPredicted("classMetrics", labels, predicted, classes, MOST_CLASSES);
  const [right, images, taken] = [0, 1, 2].map(() => new Uint32Array(classes));
  for (let i = 0; i < labels.length; i++) {
    images![labels[i]!]!++;
    taken![predicted[i]!]!++;
    if (labels[i] === predicted[i]) right![labels[i]!]!++;
  }
  return Array.from({ length: classes }, (_, k) => ({
    precision: right![k]! / taken![k]!,
    recall: right![k]! / images![k]!,
    f1: 2 * right![k]! / (images![k]! + taken![k]!),
    images: images![k]!,
  }));
}

/** How often a class was taken for another one. */
export interface Confusion {
  /** The class of the images. */
  readonly label: number;
  /** The class that they were taken for. */
  readonly predicted: number;
  /** Number of images. */
  readonly count: number;
}

/**
 * The pairs of classes that were confused most often, the worst first, `most` at most. Look at
 * these if there are too many classes for a matrix.
 *
 * @throws {ArgumentError} if labels or predictions are no integers, or differ in number.
 *
 * @example
 * ```ts
 * import { worstConfusions } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const worst = worstConfusions([0, 1, 2, 2], [1, 1, 0, 0], 1);
 * assertEquals(worst, [{ label: 2, predicted: 0, count: 2 }]);
 * ```
 */
export function worstConfusions(
  labels: ArrayLike<number>,
  predicted: ArrayLike<number>,
  most: number,
): Confusion[] {
  const wanted = { integer: true, min: 0, max: MOST_CLASSES };
  checkNumbers("worstConfusions", "labels", labels, wanted);
  checkNumbers("worstConfusions", "predicted", predicted, wanted);
  if (labels.length !== predicted.length) {
    refuse("worstConfusions", "predicted", `as long as labels, ${labels.length}`, predicted);
  }
  checkNumber("worstConfusions", "most", most, { integer: true, min: 0 });
  const counts = new Map<number, number>();
  for (let i = 0; i < labels.length; i++) {
    if (labels[i] === predicted[i]) continue;
    const pair = labels[i]! * (MOST_CLASSES + 1) + predicted[i]!;
    counts.set(pair, (counts.get(pair) ?? 0) + 1);
  }
  return [...counts]
    .sort(([a, m], [b, n]) => n - m || a - b)
    .slice(0, most)
    .map(([pair, count]) => ({
      label: Math.floor(pair / (MOST_CLASSES + 1)),
      predicted: pair % (MOST_CLASSES + 1),
      count,
    }));
}

/**
 * Indices of the images that were classified wrong, the most confident mistake first, `most` at most.
 * A probability of NaN, of a net whose outputs are not finite, is no confidence at all.
 *
 * @throws {ArgumentError} if labels or predictions are no numbers, or differ in number.
 *
 * @example
 * ```ts
 * import { confidentMistakes } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const predictions = { predicted: [1, 1, 0], probability: [0.6, 0.9, 0.8] };
 * assertEquals(confidentMistakes([0, 1, 1], predictions, 2), [2, 0]);
 * ```
 */
export function confidentMistakes(
  labels: ArrayLike<number>,
  predictions: Predictions,
  most: number,
): number[] {
  checkNumbers("confidentMistakes", "labels", labels);
  checkObject("confidentMistakes", "predictions", predictions);
  const { predicted, probability } = predictions;
  for (const [name, values] of Object.entries({ predicted, probability })) {
    checkNumbers("confidentMistakes", name, values);
    if (values.length === labels.length) continue;
    refuse("confidentMistakes", name, `as long as labels, ${labels.length}`, values);
  }
  checkNumber("confidentMistakes", "most", most, { integer: true, min: 0 });
  const confidence = Array.from(probability, (p) => Number.isNaN(p) ? -1 : p);
  return Array.from(labels, (_, i) => i)
    .filter((i) => labels[i] !== predicted[i])
    .sort((a, b) => confidence[b]! - confidence[a]! || a - b)
    .slice(0, most);
}
