/**
 * Asks the browser to keep the page and its data.
 *
 * @module
 */

/** Milliseconds to wait for the service worker at a first visit. */
const PATIENCE = 3000;

/**
 * Registers the service worker, and resolves when it sees what is fetched: so that what is fetched from
 * then on is kept. Where there is none, or it takes long, the page works all the same.
 */
export async function workOffline(): Promise<void> {
  const workers: ServiceWorkerContainer | undefined = navigator.serviceWorker;
  if (!workers) return; // As in a private window of some browsers.
  const controlled = new Promise<void>((resolve) => {
    workers.addEventListener("controllerchange", () => resolve(), { once: true });
    setTimeout(resolve, PATIENCE);
  });
  try {
    const { active } = await workers.register("service_worker.js");
    // One that is there and does not see this page is not to: the page was reloaded past all caches.
    if (!active) await controlled;
  } catch {
    // The browser is set to keep nothing.
  }
}
