"use strict";
{
  // Rows and columns of the plane across each axis; Z runs upwards on the screen.
  const AXES = [
    { row: 1, column: 2, upwards: false },
    { row: 0, column: 2, upwards: true },
    { row: 0, column: 1, upwards: true },
  ];

  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  };

  const rgb = (colour) => [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));

  class Viewer {
    constructor(element, content, image, layers) {
      Object.assign(this, { element, content, image, layers });
      this.shape = content.shape;
      this.samples = image.length / (this.shape[0] * this.shape[1] * this.shape[2]);
      this.position = [...content.start];
      this.strides = [this.shape[1] * this.shape[2], this.shape[2], 1];
      this.colours = Object.fromEntries(Object.entries(content.labels).map(([index, [, colour]]) => [index, rgb(colour)]));
      this.planes = [...element.querySelectorAll(".plane")];
      this.sliders = [...element.querySelectorAll(".view input")];
      this.controls = Object.fromEntries([...element.querySelectorAll(".controls input")].map((input) => [input.name, input]));
      this.output = element.querySelector("output");
      this.setWindow();
      this.planes.forEach((plane, axis) => this.prepare(plane, axis));
      for (const input of Object.values(this.controls)) input.addEventListener("input", () => this.draw());
      this.element.hidden = false;
      this.draw();
    }

    level(value) {
      const [low, high] = this.content.range;
      return Math.round((255 * (value - low)) / (high - low));
    }

    value(level) {
      const [low, high] = this.content.range;
      return low + (level / 255) * (high - low);
    }

    setWindow() {
      if (this.samples !== 1) return;
      this.controls.black.value = this.level(this.content.window[0]);
      this.controls.white.value = this.level(this.content.window[1]);
    }

    prepare(plane, axis) {
      const { row, column } = AXES[axis];
      const [height, width] = [this.content.size[row], this.content.size[column]];
      plane.style.aspectRatio = `${width} / ${height}`;
      plane.style.width = `min(100%, calc(60vh * ${width / height}))`;
      const canvas = plane.querySelector("canvas");
      [canvas.height, canvas.width] = [this.shape[row], this.shape[column]];
      this.sliders[axis].addEventListener("input", () => this.move(axis, Number(this.sliders[axis].value)));
      plane.addEventListener("pointerdown", (event) => {
        plane.setPointerCapture(event.pointerId);
        this.point(plane, axis, event);
      });
      plane.addEventListener("pointermove", (event) => event.buttons && this.point(plane, axis, event));
      plane.addEventListener("keydown", (event) => this.press(axis, event));
    }

    point(plane, axis, event) {
      const { row, column, upwards } = AXES[axis];
      const place = plane.getBoundingClientRect();
      const down = Math.floor(((event.clientY - place.top) / place.height) * this.shape[row]);
      this.position[column] = this.inside(column, Math.floor(((event.clientX - place.left) / place.width) * this.shape[column]));
      this.position[row] = this.inside(row, upwards ? this.shape[row] - 1 - down : down);
      this.draw();
    }

    press(axis, event) {
      const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -this.shape[axis], End: this.shape[axis] };
      if (event.altKey || event.ctrlKey || event.metaKey || !(event.key in steps)) return;
      event.preventDefault();
      this.move(axis, this.position[axis] + steps[event.key]);
    }

    inside(axis, index) {
      return Math.max(0, Math.min(this.shape[axis] - 1, index));
    }

    move(axis, index) {
      this.position[axis] = this.inside(axis, index);
      this.draw();
    }

    draw() {
      this.readControls();
      this.planes.forEach((plane, axis) => this.drawPlane(plane, axis));
      this.sliders.forEach((slider, axis) => {
        slider.value = this.position[axis];
      });
      this.output.textContent = this.describe();
    }

    readControls() {
      this.opacity = Number(this.controls.opacity.value);
      this.shown = this.layers.filter((layer) => this.controls[layer.name].checked);
      if (this.samples !== 1) return;
      this.black = Number(this.controls.black.value);
      this.span = Math.max(1, Number(this.controls.white.value) - this.black);
    }

    drawPlane(plane, axis) {
      const { row, column, upwards } = AXES[axis];
      const [height, width] = [this.shape[row], this.shape[column]];
      const picture = new ImageData(width, height);
      const start = this.position[axis] * this.strides[axis];
      for (let y = 0; y < height; y++) {
        const index = upwards ? height - 1 - y : y;
        for (let x = 0; x < width; x++) {
          const voxel = start + index * this.strides[row] + x * this.strides[column];
          const place = 4 * (y * width + x);
          this.paint(picture.data, place, voxel);
          for (const layer of this.shown) {
            if (layer.labels[voxel] && (layer.filled || this.isEdge(layer.labels, voxel, index, x, row, column))) {
              this.cover(picture.data, place, this.colours[layer.labels[voxel]], layer.filled ? this.opacity : 1);
            }
          }
        }
      }
      plane.querySelector("canvas").getContext("2d").putImageData(picture, 0, 0);
      const down = upwards ? height - 1 - this.position[row] : this.position[row];
      plane.querySelector(".row").style.top = `${(100 * (down + 0.5)) / height}%`;
      plane.querySelector(".column").style.left = `${(100 * (this.position[column] + 0.5)) / width}%`;
    }

    paint(pixels, place, voxel) {
      for (let part = 0; part < 3; part++) {
        pixels[place + part] =
          this.samples === 3 ? this.image[3 * voxel + part] : (255 * (this.image[voxel] - this.black)) / this.span; // clamped
      }
      pixels[place + 3] = 255;
    }

    cover(pixels, place, colour, share) {
      if (!colour) return;
      for (let part = 0; part < 3; part++) {
        pixels[place + part] = (1 - share) * pixels[place + part] + share * colour[part];
      }
    }

    isEdge(labels, voxel, y, x, row, column) {
      const [down, across] = [this.strides[row], this.strides[column]];
      const label = labels[voxel];
      return (
        y === 0 || x === 0 || y === this.shape[row] - 1 || x === this.shape[column] - 1 ||
        labels[voxel - down] !== label || labels[voxel + down] !== label ||
        labels[voxel - across] !== label || labels[voxel + across] !== label
      );
    }

    describe() {
      const voxel = this.position.reduce((sum, index, axis) => sum + index * this.strides[axis], 0);
      const [z, y, x] = this.position.map((index, axis) => index * this.content.steps[axis]);
      const place = `Z ${z}, Y ${this.content.stored[1] - 1 - y}, X ${x}`; // the rows run from front to back
      const samples = [...this.image.subarray(this.samples * voxel, this.samples * (voxel + 1))];
      const values = this.samples === 1 ? `about ${Number(this.value(samples[0]).toPrecision(3))}` : `colour ${samples.join(" ")}`;
      const labels = this.layers.map((layer) => `${layer.name}: ${(this.content.labels[layer.labels[voxel]] || ["background"])[0]}`);
      const window = this.samples === 1 ? [`window ${this.words("black")} to ${this.words("white")}`] : [];
      return [place, values, ...labels, ...window].join("; ");
    }

    words(name) {
      return Number(this.value(Number(this.controls[name].value)).toPrecision(3));
    }
  }

  const show = async (element) => {
    const content = JSON.parse(element.dataset.case);
    const image = new Uint8Array(await unpack(content.image));
    const layers = await Promise.all(
      content.layers.map(async (layer) => ({ ...layer, labels: new Uint16Array(await unpack(layer.labels)) })),
    );
    return new Viewer(element, content, image, layers);
  };

  if (typeof DecompressionStream !== "undefined") {
    for (const element of document.querySelectorAll(".planes")) show(element);
  }
}
