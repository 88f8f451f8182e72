/**
 * The camera, where there is one and its use is allowed.
 *
 * @module
 */

/** Milliseconds between two pictures. */
const EVERY = 250;

/** Hands out pictures of the camera until it is stopped. */
export class Camera {
  #stream: MediaStream | undefined;
  #timer = 0;

  /** `video` shows it; `onPicture` gets it now and then. */
  constructor(
    readonly video: HTMLVideoElement,
    readonly onPicture: (video: HTMLVideoElement) => void,
  ) {}

  /** Whether there may be one. */
  static get possible(): boolean {
    return navigator.mediaDevices?.getUserMedia !== undefined;
  }

  /** Whether it is on. */
  get on(): boolean {
    return this.#stream !== undefined;
  }

  /** @throws {Error} if there is none, or its use is not allowed. */
  async start(): Promise<void> {
    const facingMode = "environment";
    this.#stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode } });
    this.video.srcObject = this.#stream;
    await this.video.play();
    this.#timer = setInterval(() => this.onPicture(this.video), EVERY);
  }

  /** Lets go of it. */
  stop(): void {
    clearInterval(this.#timer);
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = undefined;
    this.video.srcObject = null;
  }
}
