/**
 * The page's worker: it has the device and does all the work, so that the page never waits.
 *
 * @module
 */

import type { FromWorker, ToWorker } from "./protocol.ts";
import { Session } from "./session.ts";

/** What a worker has of its scope; the page's types know no other. */
declare const self: {
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  postMessage(message: FromWorker): void;
};

const session = new Session((message) => self.postMessage(message));
self.onmessage = ({ data }) => session.handle(data);
