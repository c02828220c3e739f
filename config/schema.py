"""The settings: one frozen-shape dataclass a group. YAML files in the folders beside this one fill them.

Units stand in each field's docstring. ``None`` means "not known"; whoever needs the value says so by name.
Only types that OmegaConf understands are used, so that Hydra checks every override against this file.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class CameraSettings:
    """The calibration of a camera: photons = (ADU − baseline) · e_per_adu / (em_gain · quantum_efficiency)."""

    name: str = "unknown"
    """What the calibration belongs to, for people."""
    baseline: float | None = None
    """Mean signal in the dark [ADU]. Also called offset or bias."""
    e_per_adu: float | None = None
    """Electrons per ADU at the output, after any EM register [e⁻/ADU]. Also called sensitivity or pre-amp gain."""
    em_gain: float | None = None
    """Mean multiplication of the EM register; 1 for a camera without one."""
    quantum_efficiency: float | None = None
    """Detected photoelectrons per photon at the emission wavelength, 0 to 1."""
    read_noise: float | None = None
    """Read noise at the output [e⁻ rms]; for an EMCCD after the register, so it may be large."""
    spurious_charge: float | None = None
    """Clock-induced charge and dark current together [e⁻ / pixel / frame], before the register."""
    pixel_size: float | None = None
    """Width of a camera pixel in the sample [nm], with binning."""
    saturation: float = 65535.0
    """Largest value the camera gives out [ADU]."""
    maps: str | None = None
    """An .npz with per-pixel arrays (H, W): ``offset`` [ADU], ``gain`` [ADU/e⁻], ``variance`` [ADU²] (sCMOS)."""
    estimate: bool = False
    """Estimate what is missing of baseline and e_per_adu from the recording itself. Photon counts are then a guess."""


@dataclass
class OpticsSettings:
    """What the microscope does with light."""

    name: str = "unknown"
    """What the settings belong to, for people."""
    psf_sigma: float | None = None
    """Standard deviation of the Gaussian point-spread function in the sample plane, in focus [nm]."""
    psf: str = "gaussian"
    """What simulations draw: gaussian, astigmatic (two widths that depend on z) or spline (measured on beads)."""
    sigma_spread: float = 0.0
    """Standard deviation over emitters of the PSF's width, over its mean (gaussian and astigmatic)."""
    focus: list[float] = field(default_factory=lambda: [-200.0, 200.0])
    """astigmatic: heights z at which the PSF is narrowest along x and along y [nm]."""
    focal_depth: list[float] = field(default_factory=lambda: [400.0, 400.0])
    """astigmatic: distance from its focus at which each width has grown by √2 [nm]."""
    third: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """astigmatic: third-order terms of the two calibration curves (Huang et al. 2008), as a share."""
    fourth: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """astigmatic: fourth-order terms of the two calibration curves, as a share."""
    psf_file: str | None = None
    """spline: the file that `liveloc psf` made of a bead's z-stack."""


@dataclass
class NetworkSettings:
    """A network: which class, and what its variants differ in. Widths are channels.

    Each class (models/*.py) says which of the fields it reads.
    """

    name: str = "default"
    """Name in the registry of networks."""
    kind: str = "attention_unet"
    """Which network class (models/registry.py)."""
    past: int = 4
    """Frames before the frame that a localisation may draw on."""
    future: int = 4
    """Frames after it. The live delay is this many exposures."""
    encoder: list[int] = field(default_factory=lambda: [48, 64])
    """Channels of the encoder at half, quarter … resolution."""
    features: int = 64
    """Channels that stay in the rolling buffer, at half resolution; what attention works on."""
    heads: int = 4
    """Attention heads."""
    decoder: list[int] = field(default_factory=lambda: [64, 96, 128])
    """Channels of the decoder at half, quarter … resolution."""
    photon_scale: float = 1000.0
    """Photons per unit of the photon head."""
    background_scale: float = 50.0
    """Photons per unit of the background head."""
    input_offset: float = 4.0
    """Photons below which the input is linear and above which it grows as a square root, flattening shot noise."""
    input_scale: float = 0.25
    """Factor after that."""
    input_log: float = 0.0
    """attention_unet: the frame enters a second time as log(1 + photons / this), in which an emitter looks alike
    however bright it is, so that the place of a bright one is told more exactly. 0: it does not."""
    dimensions: int = 2
    """2, or 3 for a network that finds z; then the training's PSF must depend on z."""
    z_scale: float = 500.0
    """Nanometres per unit of the z head."""
    fold: int = 2
    """attention_unet: a frame enters with this many pixels, each way, folded into channels; 1: full resolution."""
    attention_at: int = 2
    """attention_unet: attention along time sees one place every this many pixels, each way; a multiple of fold."""
    positions: bool = True
    """vit: attention along time knows how far away a frame is, and not only what is in it."""
    patch: int = 4
    """vit: height and width of a patch [pixels]."""
    blocks: list[int] = field(default_factory=lambda: [2, 2])
    """vit: transformer blocks within a frame before and after attention along time."""
    window: int = 8
    """vit: attention within a frame sees windows this high and wide [patches]."""
    passes: int = 1
    """vit: how often the answer is made, each time knowing the one before."""
    sampling_steps: int = 3
    """diffusion: steps from noise to an answer when it runs."""
    gates: bool = False
    """diffusion: skips of the denoising U-Net pass attention gates."""
    middle: int = 0
    """diffusion: size of one more kernel at the coarsest level of the denoising U-Net; 0: none."""


@dataclass
class DomainSettings:
    """What a model is trained for: ranges that scenes are drawn from. Drawn log-uniformly unless it says otherwise."""

    psf_sigma: list[float] = field(default_factory=lambda: [0.8, 1.8])
    """Standard deviation of the PSF [pixels], uniform."""
    photons: list[float] = field(default_factory=lambda: [100.0, 5000.0])
    """Mean photons of an emitter in a fully lit frame [photons]."""
    photons_spread: list[float] = field(default_factory=lambda: [0.1, 0.5])
    """Standard deviation of that over its mean, within a scene, uniform."""
    background: list[float] = field(default_factory=lambda: [1.0, 200.0])
    """Background [photons / pixel / frame]."""
    density: list[float] = field(default_factory=lambda: [0.0, 0.04])
    """Active emitters per frame and pixel area [1 / pixel²], square-root-uniform; 0.04 is 4 /µm² at 100 nm pixels."""
    on_time: list[float] = field(default_factory=lambda: [1.0, 6.0])
    """Mean time an emitter stays on [frames]."""
    emccd_fraction: float = 0.6
    """Share of scenes seen by an EMCCD; the rest by an sCMOS with a map of its own."""
    psf: str = "gaussian"
    """gaussian, astigmatic or spline, as in optics. psf_sigma is then the width in focus; a spline has its own."""
    psf_file: str | None = None
    """spline: the file that `liveloc psf` made of a bead's z-stack."""
    depth: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Height z of emitters, uniform [nm]."""
    focus_x: list[float] = field(default_factory=lambda: [-200.0, -200.0])
    """astigmatic: height at which the PSF is narrowest along x, uniform [nm]."""
    focus_y: list[float] = field(default_factory=lambda: [200.0, 200.0])
    """astigmatic: the same along y [nm]."""
    focal_depth: list[float] = field(default_factory=lambda: [400.0, 400.0])
    """astigmatic: distance from its focus at which a width has grown by √2, uniform [nm]."""
    third: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """astigmatic: third-order terms of the two calibration curves, along x and y, as a share."""
    fourth: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """astigmatic: fourth-order terms, along x and y, as a share."""
    width_spread: float = 0.0
    """Standard deviation over a scene's emitters of the PSF's width, over its mean."""
    flicker: float = 0.0
    """Standard deviation of an emitter's brightness from frame to frame, over its mean."""
    dropout: float = 0.0
    """Share of scenes in which a random rectangle is left without emitters."""
    structured_background: float = 0.0
    """Share of scenes whose background has structure: half of them textured, half of them with cells."""
    background_change: float = 0.0
    """Largest relative change of a scene's background from its first frame to its last."""
    flips: bool = False
    """Mirror half of the scenes along x, and half along y. Not for a spline, whose mirror image is another PSF."""
    often: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Narrower ranges, by the names above, of what most microscopes see: a share of the scenes is drawn from them.
    Written with a point: photons: [250.0, 2000.0]."""
    often_share: float = 0.0
    """That share of the scenes."""


@dataclass
class TrainingSettings:
    """How a network is trained."""

    name: str = "default"
    """Name of the recipe, for people."""
    base: str | None = None
    """A shipped model's name or a .safetensors model file whose weights to start from; None: fresh weights."""
    steps: int = 13000
    """Optimiser steps."""
    batch_size: int = 6
    """Scenes a step."""
    sequence: int = 12
    """Consecutive frames a scene."""
    size: int = 32
    """Height and width of a training frame [pixels]."""
    learning_rate: float = 1e-3
    """Peak of the schedule."""
    schedule: str = "cosine"
    """How it falls after the warm-up: cosine or linear, both to zero, or constant."""
    warmup: int = 200
    """Steps of linear warm-up."""
    optimiser: str = "muon"
    """muon, or any of torch.optim's by its name (adamw, sgd, radam …)."""
    weight_decay: float = 0.01
    """Weight decay of the optimiser, uncoupled from the gradient."""
    gradient_clip: float = 25.0
    """Largest gradient norm."""
    ema: float = 0.999
    """Decay a step of the averaged weights that are validated and exported; 0 turns averaging off."""
    precision: str = "auto"
    """auto (bf16 where the device has instructions for it, else fp32), bf16 or fp16 (autocast), or fp32."""
    device: str = "auto"
    """auto, cpu or cuda."""
    devices: int = 1
    """Devices a node that train together; each takes batches of its own, so a step sees that many times as much."""
    nodes: int = 1
    """Computers that train together, each started with the same command as Lightning describes for its cluster."""
    threads: int | None = None
    """Processor threads; None: all."""
    seed: int = 1
    """Seed of weights and scenes."""
    checkpoint_every: int = 250
    """Steps between checkpoints."""
    validate_every: int = 500
    """Steps between validations; the checkpoint of the best efficiency is kept as best.ckpt."""
    validation_batches: int = 20
    """Batches of fixed scenes in a validation; 0 turns it off."""
    output: str = "trainings/default"
    """Folder of checkpoints and curves."""
    resume: bool = True
    """Go on from the newest checkpoint in ``output``."""
    domain: DomainSettings = field(default_factory=DomainSettings)
    """What the model is trained for."""


@dataclass
class DatasetSettings:
    """A simulated acquisition."""

    name: str = "random"
    """Name of the data set, for people."""
    frames: int = 1000
    """Number of frames."""
    height: int = 64
    """Rows [pixels]."""
    width: int = 64
    """Columns [pixels]."""
    exposure: float = 30.0
    """Exposure of a frame [ms]; frames follow without a pause."""
    density: float = 1.0
    """Mean number of emitters that are on at any moment, per area [1/µm²]. A frame's truth counts every emitter that
    shines in it, however briefly: (1 + exposure / on_time) times as many."""
    photons: float = 1000.0
    """Mean photons of an emitter in a fully lit frame [photons]."""
    photons_sd: float = 300.0
    """Standard deviation over emitters of that [photons]."""
    background: float = 20.0
    """Mean background [photons / pixel / frame]."""
    background_variation: float = 0.2
    """Standard deviation over the field of the smooth background, over its mean."""
    on_time: float = 60.0
    """Mean time an emitter stays on, continuous [ms]."""
    off_time: float = 3000.0
    """Mean time it stays off before it comes back [ms]."""
    blinks: float = 3.0
    """Mean number of times it comes on before it bleaches."""
    depth: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Heights z that the sample takes up [nm]. Random emitters stand anywhere between; structures in the middle."""
    structure: str = "random"
    """Where emitters sit: random, lines, ring, image, approaching, microtubules, pores, star or pairs."""
    structure_file: str | None = None
    """image: a picture whose smaller part, dark or bright, is the structure."""
    pair_distances: list[float] = field(default_factory=lambda: [25.0, 50.0, 100.0, 200.0])
    """pairs: how far apart the two of a pair stand, in turn [nm]."""
    labels: int = 2000
    """Binding sites on a structure (structure other than random)."""
    labelling: float = 1.0
    """Share of the binding sites that carry a dye."""
    linkage: float = 0.0
    """Standard deviation of a dye's place around its binding site, along each axis [nm]."""
    background_kind: str = "smooth"
    """smooth, textured (Perlin's noise on several scales) or cells (bright cell bodies on a dim ground)."""
    background_change: float = 0.0
    """Share of the background that is another one after background_time, 0 to 1."""
    background_time: float = 10.0
    """Time in which the changing part of the background becomes another one [s]."""
    background_bleaching: float | None = None
    """Time in which the background bleaches to 1/e [s]; None: never."""
    drift: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Steady drift of the sample along x, y and z [nm/s]."""
    drift_walk: float = 0.0
    """Random drift along x and y: standard deviation after a second; it grows with the square root of time [nm]."""
    vibration: float = 0.0
    """Vibration of the sample along x and y [nm rms]."""
    vibration_frequency: float = 50.0
    """Frequency of the vibration [Hz]."""
    pixel_maps: bool = False
    """Draw an sCMOS's maps around the camera's values: every pixel has an offset, gain and read noise of its own."""
    seed: int = 0
    """Seed of everything."""
    output: str | None = None
    """Folder to write; None: a dated folder under runs/."""


@dataclass
class PhotophysicsSettings:
    """How emitters blink in simulated data sets."""

    name: str = "two_state"
    """Name of the dye or model, for people."""
    kind: str = "two_state"
    """two_state: dataset.on_time, off_time and blinks. states: the Markov chain of ``rates``."""
    rates: dict[str, float] = field(default_factory=dict[str, float])
    """Rate of each transition, ``bright > dark: 20.0`` [1/s], states named at will (but YAML takes on and off for true
    and false). A state that nothing leaves is bleached for ever."""
    emission: dict[str, float] = field(default_factory=dict[str, float])
    """Light of each state that has any, in any unit; the brightest gives dataset.photons in a full frame."""
    start: str | None = None
    """State in which emitters enter, where they bleach in the end; None: the first one that ``rates`` names."""


@dataclass
class SourceSettings:
    """Where live frames come from (`liveloc live`)."""

    name: str = "simulated"
    """Name of the source, for people."""
    kind: str = "simulated"
    """simulated, micromanager, micromanager_acquisition, follow or recorded."""
    path: str | None = None
    """What to read: the stack (recorded), or the data set that is being written (follow)."""
    paced: bool = False
    """Give a recorded stack at the rate it was recorded at, not as fast as it can be read."""
    backend: str = "java"
    """java: the Micro-Manager that runs on this computer; python: Micro-Manager's core in this process, without it."""
    port: int = 4827
    """Port of the running Micro-Manager's server (backend java)."""
    config: str | None = None
    """Micro-Manager configuration for backend python: a .cfg file; demo: its demo camera; blinking: the simulated
    EMCCD as a camera inside the core."""
    adapters: str | None = None
    """Folder of Micro-Manager's device adapters for backend python; None: those of the mm-test-adapters package."""
    exposure: float | None = None
    """Exposure to set on the camera [ms]; None: as it is set."""
    binning: int | None = None
    """Binning to set on the camera; None: as it is set."""
    buffer: float = 5.0
    """Seconds of frames that Micro-Manager's buffer should hold, at least 64 MB [s]."""
    save: str | None = None
    """Folder in which micromanager_acquisition saves the raw NDTiff; None: `raw` in the run folder."""
    silence: float = 10.0
    """A camera that gives no frame for so long (and for five exposures) has stopped or hangs [s]."""


@dataclass
class WireSettings:
    """The sockets that viewers and other programs connect to (docs/wire.md)."""

    name: str = "loopback"
    """Name of these settings, for people."""
    enabled: bool = True
    """Publish at all."""
    address: str = "127.0.0.1"
    """Address to bind to. Anything but this computer itself needs ``keys``."""
    port: int = 5601
    """Port of the publisher; the next one answers requests. 0: any free pair. Taken: a free pair, and it is said."""
    commands: bool = True
    """Whether clients may start, pause, stop, mark and change the feedback's target."""
    keys: str | None = None
    """Folder of CURVE keys that `liveloc keys` made: the server's own and those of the clients it lets in."""
    preview_rate: float = 5.0
    """Most raw frames published [1/s]."""


@dataclass
class MonitorSettings:
    """Figures of quality while the run goes on, and when to stop by itself."""

    name: str = "default"
    """Name of these settings, for people."""
    enabled: bool = True
    """Measure at all."""
    every: float = 1.0
    """Time of data that one row of figures covers [s]."""
    frc_every: float = 20.0
    """Time of data between two estimates of the FRC resolution and the drift [s]."""
    frc_block: int = 100
    """Frames that go into the same half of the data, so that one molecule is not in both."""
    stop_at_plateau: bool = False
    """Stop when the FRC resolution no longer improves."""
    plateau: float = 0.02
    """Relative improvement of the resolution over half of the data below which it counts as a plateau."""
    stop_after: int | None = None
    """Stop after so many localisations."""


@dataclass
class FeedbackSettings:
    """Holds the density of emitters by the activation light. Off unless it is asked for."""

    name: str = "off"
    """Name of these settings, for people."""
    enabled: bool = False
    """Whether to touch the light at all."""
    target: float = 1.0
    """Localisations per frame and area to hold [1/µm²]."""
    device: str | None = None
    """Micro-Manager's label of the light's device."""
    property: str | None = None
    """The device property that sets its power."""
    minimum: float = 0.0
    """Least power, in the property's own unit."""
    maximum: float = 100.0
    """Most power, in the property's own unit."""
    safe: float = 0.0
    """Power that is set when the run ends, for whatever reason."""
    start: float | None = None
    """Power to begin with; None: as it is set."""
    slew: float = 10.0
    """Most change of power in a second, in the property's own unit."""
    every: float = 1.0
    """Time between two changes [s]."""
    gain: float = 0.5
    """Share of the relative error in density that one change makes good."""


@dataclass
class RunSettings:
    """One run of the engine."""

    name: str = "replay"
    """Ends the name of the run folder."""
    output: str | None = None
    """The run folder itself; None: a dated folder under runs/."""
    start: int = 0
    """First frame to analyse."""
    stop: int | None = None
    """Frame to stop before; None: the last."""
    roi: list[int] | None = None
    """Rectangle to analyse: x, y, width, height [pixels]; x counts columns. None: everything."""
    runtime: str = "auto"
    """auto, onnx or torch: what runs the model file. auto: what a short measurement found to be fastest here."""
    precision: str = "auto"
    """auto (measured, too), fp32, bf16 or fp16: in what the network computes. Its answers stay in fp32."""
    compile: bool = False
    """Let torch compile the network: quicker, after a minute or two at each start with a new model or frame size."""
    tile: str = "auto"
    """auto (where memory or speed ask for it), none, or N: work off large frames in tiles of N pixels, same rows."""
    device: str = "auto"
    """auto, cpu or cuda. ``cuda`` fails where there is none; ``auto`` says what it took."""
    threads: int | None = None
    """Processor threads of the runtime; None: one a core."""
    block: int = 16
    """Frames handed to the network at once."""
    queue: int = 8
    """Blocks that may wait between two stages."""
    policy: str = "every"
    """When inference falls behind: every (frames wait, on disk where memory is not enough) or newest (frames are
    skipped to stay live, and every skipped number is recorded)."""
    memory: float = 256.0
    """Frames that wait for inference take at most this much memory [MB]; the others wait on disk."""
    spool: str | None = None
    """Folder for the frames that wait on disk; None: the run folder."""
    cpu_fallback: bool = False
    """Go on with the processor when the GPU is lost or out of memory at the smallest block."""
    seconds: float | None = None
    """End after so long [s]."""
    frames: int | None = None
    """End after so many frames."""
    threshold: float = 0.7
    """Smallest probability of a localisation that is kept. Lower finds more dim emitters, higher errs less."""
    formats: list[str] = field(default_factory=lambda: ["csv", "parquet"])
    """Tables written at the end: csv (ThunderSTORM), hdf5 (Picasso), parquet."""
    image_pixel: float = 10.0
    """Pixel of image.png [nm]."""


@dataclass
class ClusterSettings:
    """Many processes that replay recorded stacks together (docs/scale.md)."""

    name: str = "off"
    """Name of these settings, for people."""
    kind: str = "off"
    """off, local (processes on this computer) or address (a Dask scheduler that runs)."""
    address: str | None = None
    """HOST:PORT of the scheduler; `cluster=HOST:PORT` says the same."""
    tls: str | None = None
    """Folder of ca.pem, cert.pem and key.pem (`liveloc certificates` makes them). A scheduler on another computer needs
    it."""
    trust_network: bool = False
    """Connect to another computer without TLS. Whoever reaches that network then runs programs as you."""
    workers: int | None = None
    """Processes of a local cluster; None: one a GPU, else one a processor core."""
    threads: int | None = None
    """Processor threads of each worker's runtime; None: run.threads, else (local) the cores shared out evenly."""
    chunk: int | None = None
    """Frames that a worker is given at once, rounded up to whole blocks; None: so that context that is read twice is
    about 2 %, and each worker has work."""
    retries: int = 2
    """Times that a chunk is given to another worker when it fails."""
    patience: float = 120.0
    """Time to wait for a first worker [s]."""


@dataclass
class EvaluationSettings:
    """What `liveloc evaluate`, `compare` and `inspect` measure beside the table in the terminal, and where it goes."""

    name: str = "default"
    """Name of these settings, for people."""
    output: str | None = None
    """Folder for everything that can be measured: results.json, .md, .csv and figures; None: the short table alone."""
    thresholds: list[float] = field(
        default_factory=lambda: [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    )
    """Smallest probabilities that are tried; the least of them is as improbable as localisations are looked at."""
    isolated_photons: list[float] = field(default_factory=lambda: [200.0, 300.0, 500.0, 1000.0, 2000.0, 5000.0])
    """Light of isolated emitters in each frame [photons]."""
    isolated_frames: list[int] = field(default_factory=lambda: [1, 3, 9])
    """Consecutive frames in which each of them shines."""
    isolated_background: float = 10.0
    """Background behind them [photons / pixel / frame]."""
    isolated_depth: list[float] = field(default_factory=lambda: [-400.0, 400.0])
    """Heights that they stand at, where the PSF depends on it [nm]."""
    isolated_emitters: int = 1200
    """How many of them, counted in every frame, a row of figures takes."""
    pair_distances: list[float] = field(
        default_factory=lambda: [100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0, 500.0, 600.0]
    )
    """How far apart the two of a pair stand [nm]."""
    pair_frames: list[int] = field(default_factory=lambda: [1, 3])
    """Consecutive frames in which each of a pair shines; in several, one comes on a frame later."""
    pairs: int = 400
    """Pairs, counted in every frame, for each distance."""


@dataclass
class BenchSettings:
    """What `liveloc bench` measures. Its words need no ``bench.`` before them on that command's line."""

    name: str = "default"
    """Name of these settings, for people."""
    models: list[str] = field(default_factory=list[str])
    """Shipped models' names or model files; a network's name stands for one without a training. Empty: the shipped."""
    runtimes: list[str] = field(default_factory=list[str])
    """runtime or runtime-precision, such as torch-bf16. Empty: those that this computer chooses between."""
    sizes: list[int] = field(default_factory=lambda: [64, 128, 256])
    """Heights and widths of square frames [pixels]."""
    seconds: float = 1.5
    """Time that each speed is measured for [s]."""
    output: str | None = None
    """A .json file for the rows."""
    plot: str | None = None
    """A .png file for the picture."""
    page: str | None = None
    """A .md file: what the networks cost, what this computer can do, and how close they come (docs/performance.md)."""


@dataclass
class Settings:
    """Everything, as a run folder or a model file keeps it."""

    camera: CameraSettings = field(default_factory=CameraSettings)
    optics: OpticsSettings = field(default_factory=OpticsSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    photophysics: PhotophysicsSettings = field(default_factory=PhotophysicsSettings)
    run: RunSettings = field(default_factory=RunSettings)
    source: SourceSettings = field(default_factory=SourceSettings)
    wire: WireSettings = field(default_factory=WireSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    feedback: FeedbackSettings = field(default_factory=FeedbackSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    bench: BenchSettings = field(default_factory=BenchSettings)
    model: str = "default"
    """A shipped model's name or the path of a model file."""
    viewer: bool | None = None
    """Whether to open the live window (demo and live); None: where there is a screen."""
