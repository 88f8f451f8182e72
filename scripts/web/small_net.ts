/**
 * The small net of the page, which `deno task train --net scripts/web/small_net.ts` trains as well.
 *
 * @module
 */

import {
  AdaptiveAvgPool2d,
  BatchNorm2d,
  Conv2d,
  Flatten,
  Linear,
  MaxPool2d,
  ReLU,
  Sequential,
} from "../../mod.ts";

/** Two convolutions and a classifier for images of any size; by default 20,586 parameters. */
export default function smallNet({ inChannels = 1, numClasses = 10 } = {}): Sequential {
  return new Sequential(
    new Conv2d(inChannels, 16, { kernelSize: 3, padding: 1 }),
    new BatchNorm2d(16),
    new ReLU(),
    new MaxPool2d({ kernelSize: 2 }),
    new Conv2d(16, 32, { kernelSize: 3, padding: 1 }),
    new BatchNorm2d(32),
    new ReLU(),
    new MaxPool2d({ kernelSize: 2 }),
    new AdaptiveAvgPool2d(7),
    new Flatten(),
    new Linear(32 * 7 * 7, numClasses),
  );
}
