/**
 * What a classifier got right and what wrong: the confusion matrix, precision and recall by class, the
 * mistakes it was surest of. Numbers in, numbers out; where predictions come from is not known here.
 *
 * @module
 */

import { checkNumber, checkNumbers, checkObject, refuse } from "../check/arguments.ts";

/** The most classes of a confusion matrix, which has a number for each two of them. */
const MOST_CLASSES = 4096;

/** What a net said about each image of a data set. */
export interface Predictions {
  /** The class of the largest logit; the first of equal ones. */
  readonly predicted: ArrayLike<number>;
  /** Its softmax probability. */
  readonly probability: ArrayLike<number>;
}

/**
 * How often each class was taken for each: `matrix[label][prediction]` is a count of images.
 *
 * @throws {ArgumentError} where labels or predictions are no numbers, or there is no such number of
 * classes.
 * @throws {RangeError} when the lists differ in length, or hold what is not one of the `classes`.
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
  classes: number,
): number[][] {
  checkNumbers("confusionMatrix", "labels", labels);
  checkNumbers("confusionMatrix", "predicted", predicted);
  checkNumber("confusionMatrix", "classes", classes, { integer: true, min: 1, max: MOST_CLASSES });
  if (labels.length !== predicted.length) {
    throw new RangeError(
      `confusionMatrix: ${labels.length} labels and ${predicted.length} predictions`,
    );
  }
  const matrix = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  for (let i = 0; i < labels.length; i++) {
    const row = matrix[labels[i]!], column = predicted[i]!;
    if (row?.[column] === undefined) {
      throw new RangeError(
        `confusionMatrix: image ${i} has label ${labels[i]} and prediction ${column}, and there ` +
          `are ${classes} classes`,
      );
    }
    row[column]!++;
  }
  return matrix;
}

/** How well a class is told from the others. A ratio of nothing to nothing is NaN. */
export interface ClassMetrics {
  /** Share of the images taken for this class that are of it. */
  readonly precision: number;
  /** Share of this class's images that were taken for it. */
  readonly recall: number;
  /** Harmonic mean of the two. */
  readonly f1: number;
  /** Images of this class. */
  readonly images: number;
}

/**
 * Precision, recall and F1 of each class, from a {@link confusionMatrix}.
 *
 * @throws {ArgumentError} where it is no square of counts.
 *
 * @example
 * ```ts
 * import { classMetrics, confusionMatrix } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const [first] = classMetrics(confusionMatrix([0, 1, 2, 2, 2], [0, 0, 2, 2, 1], 3));
 * assertEquals(first!.precision, 0.5);
 * assertEquals(first!.recall, 1);
 * ```
 */
export function classMetrics(matrix: readonly (readonly number[])[]): ClassMetrics[] {
  if (!Array.isArray(matrix)) refuse("classMetrics", "matrix", "a list of rows", matrix);
  for (let k = 0; k < matrix.length; k++) {
    checkNumbers("classMetrics", `matrix[${k}]`, matrix[k], { integer: true, min: 0 });
    if (matrix[k].length === matrix.length) continue;
    refuse("classMetrics", `matrix[${k}]`, `a row of ${matrix.length} counts`, matrix[k]);
  }
  return (matrix as readonly (readonly number[])[]).map((row, k) => {
    const right = row[k]!;
    const images = row.reduce((a, b) => a + b, 0);
    const taken = matrix.reduce((sum, { [k]: count }) => sum + count!, 0);
    return {
      precision: right / taken,
      recall: right / images,
      f1: 2 * right / (images + taken),
      images,
    };
  });
}

/**
 * Indices of the images that were classified wrong, the most confident mistake first, `most` at most.
 *
 * @throws {ArgumentError} where labels and predictions are no numbers, or not as many.
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
  return Array.from(labels, (_, i) => i)
    .filter((i) => labels[i] !== predicted[i])
    .sort((a, b) => probability[b]! - probability[a]! || a - b)
    .slice(0, most);
}
