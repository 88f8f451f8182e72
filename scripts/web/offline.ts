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
  const late = new Promise<void>((resolve) => setTimeout(resolve, PATIENCE));
  const controlled = new Promise<void>((resolve) => {
    workers.addEventListener("controllerchange", () => resolve(), { once: true });
  });
  // One that is there and does not see this page is not to: the page was reloaded past all caches.
  const sees = async () => {
    const { active } = await workers.register("service_worker.js");
    if (!active) await controlled;
  };
  // The browser may be set to keep nothing.
  await Promise.race([sees().catch(() => {}), late]);
}
