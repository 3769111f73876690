// Turns the models of a reconstruction page. Each model has a <figure class="model" data-scene="N"> with its plan view,
// and the N-th entry of the page's #scenes. All figures share one WebGL context, since browsers allow only a few: each
// picture is drawn in it and copied to the figure's own canvas. Without WebGL the plan views stay.
import {
  BufferAttribute, BufferGeometry, Color, ColorManagement, DoubleSide, LineBasicMaterial, LineSegments,
  LinearSRGBColorSpace, Mesh, MeshBasicMaterial, PerspectiveCamera, Points, PointsMaterial, Raycaster, Scene, Vector2,
  Vector3, WebGLRenderer,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";

const FIELD_OF_VIEW = 45; // degrees, vertical
const POINT = [0.008, 0.03]; // bounds of a point's diameter, which depends on their number; the model's radius is 1
const NEAREST = 0.05; // distances from the middle of the model
const FARTHEST = 20;
const EDGES = [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]]; // of a frustum: its tip and corners
const FACES = [[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1], [1, 2, 3], [1, 3, 4]];
const TURN = (8 * Math.PI) / 180; // by an arrow key
const CLICK = 5; // pixels: a longer drag turns the model and chooses no camera

ColorManagement.enabled = false; // the colours of the photos are shown as they are

function start() {
  const element = document.getElementById("scenes");
  if (!element) return;
  let renderer;
  try {
    renderer = new WebGLRenderer({ antialias: true, alpha: true });
  } catch {
    return;
  }
  renderer.outputColorSpace = LinearSRGBColorSpace;
  const scenes = JSON.parse(element.textContent);
  const viewers = new Map();
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && !viewers.has(target)) viewers.set(target, new Viewer(target, scenes[target.dataset.scene], renderer));
      viewers.get(target)?.show(isIntersecting);
    }
  }, { rootMargin: "200px" });
  for (const figure of document.querySelectorAll("figure.model")) watcher.observe(figure);
  document.getElementById("how").hidden = false;
  const repaint = () => viewers.forEach((viewer) => viewer.paint());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  renderer.domElement.addEventListener("webglcontextrestored", repaint);
}

class Viewer {
  constructor(figure, { points, colours, cameras, eye }, renderer) {
    this.renderer = renderer;
    this.stage = figure.querySelector(".stage");
    this.cameras = cameras;
    this.eye = new Vector3(...eye);
    this.chosen = null;
    this.visible = false;
    this.waiting = false;
    this.scene = new Scene();
    this.camera = new PerspectiveCamera(FIELD_OF_VIEW, 4 / 3, 0.01, 100);
    this.addPoints(points, colours);
    this.addCameras();
    this.addCanvas();
    this.addTools();
    this.addPhotos(figure.closest(".cluster"));
    this.reset();
    new ResizeObserver(() => this.draw()).observe(this.stage);
    this.stage.classList.add("turning");
    this.paint();
  }

  addPoints(points, colours) {
    const geometry = new BufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(new Float32Array(bytes(points).buffer), 3));
    geometry.setAttribute("color", new BufferAttribute(bytes(colours), 3, true));
    const size = Math.min(Math.max(1.4 / Math.sqrt(geometry.getAttribute("position").count || 1), POINT[0]), POINT[1]);
    const material = new PointsMaterial({ size, vertexColors: true });
    // Round points.
    material.onBeforeCompile = (shader) => {
      shader.fragmentShader = shader.fragmentShader.replace(
        "#include <clipping_planes_fragment>",
        "if (length(gl_PointCoord - 0.5) > 0.5) discard;\n#include <clipping_planes_fragment>",
      );
    };
    this.scene.add(new Points(geometry, material));
  }

  addCameras() {
    const positions = (parts) => new BufferAttribute(
      new Float32Array(this.cameras.flatMap(({ frustum }) => parts.flat().flatMap((corner) => frustum[corner]))), 3,
    );
    const [lines, faces] = [new BufferGeometry(), new BufferGeometry()];
    lines.setAttribute("position", positions(EDGES));
    lines.setAttribute("color", new BufferAttribute(new Float32Array(this.cameras.length * EDGES.length * 6), 3));
    faces.setAttribute("position", positions(FACES));
    this.lines = new LineSegments(lines, new LineBasicMaterial({ vertexColors: true }));
    this.faces = new Mesh(
      faces, new MeshBasicMaterial({ side: DoubleSide, transparent: true, opacity: 0.1, depthWrite: false }),
    );
    this.scene.add(this.lines, this.faces);
  }

  addCanvas() {
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "3D model");
    this.canvas.setAttribute(
      "aria-label",
      "Arrows turn the model, plus and minus change the distance, 0 resets the view, comma and full stop choose a camera.",
    );
    this.stage.append(this.canvas);
    this.controls = new OrbitControls(this.camera, this.canvas);
    Object.assign(this.controls, { minDistance: NEAREST, maxDistance: FARTHEST, enableZoom: false });
    this.controls.addEventListener("change", () => this.draw());
    // The wheel scrolls the page until the model is clicked.
    this.canvas.addEventListener("focus", () => { this.controls.enableZoom = true; });
    this.canvas.addEventListener("blur", () => { this.controls.enableZoom = false; });
    this.canvas.addEventListener("keydown", (event) => this.press(event));
    let from = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.focus({ preventScroll: true });
      from = event;
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (from && Math.hypot(event.clientX - from.clientX, event.clientY - from.clientY) < CLICK) this.pick(event);
      from = null;
    });
  }

  addTools() {
    const tools = document.createElement("div");
    tools.className = "tools";
    tools.append(button("Reset", () => this.reset()));
    if (document.fullscreenEnabled) {
      tools.append(button("Full screen", () => {
        if (document.fullscreenElement) document.exitFullscreen();
        else this.stage.requestFullscreen();
      }));
    }
    this.note = document.createElement("div");
    this.note.className = "chosen";
    this.note.setAttribute("aria-live", "polite");
    this.note.hidden = true;
    this.stage.append(tools, this.note);
  }

  // The cluster's photos choose their cameras, as a click on a camera does.
  addPhotos(cluster) {
    const shown = new Map([...cluster.querySelectorAll("img[data-photo]")].map((image) => [image.dataset.photo, image]));
    this.photos = new Map();
    this.cameras.forEach(({ photo }, number) => {
      const image = shown.get(String(photo));
      if (!image) return;
      this.photos.set(number, image);
      image.tabIndex = 0;
      image.setAttribute("role", "button");
      image.setAttribute("aria-pressed", "false");
      const toggle = () => this.choose(this.chosen === number ? null : number);
      image.addEventListener("click", toggle);
      image.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        toggle();
      });
    });
  }

  pick(event) {
    const edge = this.canvas.getBoundingClientRect();
    const place = new Vector2(
      ((event.clientX - edge.left) / edge.width) * 2 - 1, 1 - ((event.clientY - edge.top) / edge.height) * 2,
    );
    const ray = new Raycaster();
    ray.setFromCamera(place, this.camera);
    const [hit] = ray.intersectObject(this.faces);
    this.choose(hit ? Math.floor(hit.faceIndex / FACES.length) : null);
  }

  choose(number) {
    this.chosen = number;
    this.photos.forEach((image, other) => image.setAttribute("aria-pressed", String(other === number)));
    this.note.hidden = number === null;
    this.note.replaceChildren();
    if (number !== null) {
      const image = this.photos.get(number);
      if (image) this.note.append(Object.assign(new Image(), { src: image.src, alt: "" }));
      this.note.append(this.cameras[number].name);
    }
    this.paint();
  }

  press(event) {
    const turns = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const zooms = { "+": 0.85, "=": 0.85, "-": 1 / 0.85 };
    const steps = { ",": -1, ".": 1 };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (turns[event.key]) this.turn(...turns[event.key]);
    else if (zooms[event.key]) this.zoom(zooms[event.key]);
    else if (steps[event.key]) this.step(steps[event.key]);
    else if (event.key === "0") this.reset();
    else if (event.key === "Escape" && this.chosen !== null) this.choose(null);
    else return;
    event.preventDefault();
  }

  turn(right, down) {
    const offset = this.camera.position.clone().sub(this.controls.target);
    const side = new Vector3(1, 0, 0).applyQuaternion(this.camera.quaternion);
    const tilt = Math.acos(offset.y / offset.length()) + down * TURN;
    if (tilt > 0.05 && tilt < Math.PI - 0.05) offset.applyAxisAngle(side, down * TURN);
    offset.applyAxisAngle(new Vector3(0, 1, 0), right * TURN);
    this.move(offset);
  }

  zoom(factor) {
    const offset = this.camera.position.clone().sub(this.controls.target);
    this.move(offset.multiplyScalar(factor).clampLength(NEAREST, FARTHEST));
  }

  move(offset) {
    this.camera.position.copy(this.controls.target).add(offset);
    this.controls.update();
    this.draw();
  }

  step(by) {
    const count = this.cameras.length;
    const first = by > 0 ? 0 : count - 1;
    if (count) this.choose(this.chosen === null ? first : (this.chosen + by + count) % count);
  }

  reset() {
    this.controls.target.set(0, 0, 0);
    this.move(this.eye);
  }

  show(visible) {
    this.visible = visible;
    this.draw();
  }

  // Colours of the page, which follow its light or dark mode.
  paint() {
    const style = getComputedStyle(this.stage);
    const [usual, chosen] = ["--wrong", "--accent"].map((name) => new Color(style.getPropertyValue(name).trim()));
    this.faces.material.color.copy(usual);
    const colours = this.lines.geometry.getAttribute("color");
    for (let place = 0; place < colours.count; place++) {
      const colour = Math.floor(place / (EDGES.length * 2)) === this.chosen ? chosen : usual;
      colours.setXYZ(place, colour.r, colour.g, colour.b);
    }
    colours.needsUpdate = true;
    this.draw();
  }

  draw() {
    if (!this.visible || this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
      if (!width || !height) return;
      this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
      this.renderer.setSize(width, height, false);
      this.camera.aspect = width / height;
      this.camera.updateProjectionMatrix();
      this.renderer.render(this.scene, this.camera);
      const source = this.renderer.domElement;
      Object.assign(this.canvas, { width: source.width, height: source.height });
      this.canvas.getContext("2d").drawImage(source, 0, 0);
    });
  }
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

function button(text, act) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  made.addEventListener("click", act);
  return made;
}

start();
