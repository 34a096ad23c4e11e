# demo · test · test-quick · bench · addon · lint. The first run makes the two environments; later runs use them.
PYTHON ?= python3.11
PROMPT ?= a red mushroom
SEED ?= 7
OUT ?= out/demo
export PROMPT IMAGE SEED OUT

# Two processes with spinning threads stop each other on a small machine: let waiting threads sleep.
export OMP_WAIT_POLICY ?= PASSIVE
export KMP_BLOCKTIME ?= 0

# The other versions of Blender that the add-on is tested in; pyproject.toml names the one that makes the demo.
OLDER_BPY := 4.5.15 4.2.23
NEWER_BPY := 5.3.0
# Asked for its path, because a pyenv shim may be there without its Python.
PYTHON313 ?= $(or $(shell python3.13 -c "import sys; print(sys.executable)" 2>/dev/null),\
	$(lastword $(sort $(wildcard $(HOME)/.pyenv/versions/3.13.*/bin/python3.13))))
# What depends on Blender's version: registration, Blender's extension tool, datablocks, nodes and renders.
IN_EVERY_BLENDER := $(addprefix tests/blender/,test_addon_register.py test_addon_turntable.py) \
	$(wildcard tests/blender/test_scene_*.py)

# What converts, trains and compares networks: about half of the tests without Blender.
NETWORKS := tests/install tests/parity tests/starter tests/training

# For test-quick: the worlds' contracts, file formats, requests, errors, documentation, and the zip in a Blender.
QUICK := tests/test_worlds.py tests/test_house.py tests/shared tests/process/test_errors.py \
	tests/process/test_request.py
QUICK_IN_BLENDER := $(addprefix tests/blender/,test_addon_register.py test_addon_zip.py test_scene_import.py)

RESOURCES := $(CURDIR)/build/blender
INSTALLED := $(RESOURCES)/extensions/user_default/diorama
HOST := .venv-host/bin/python
BACKEND := .venv-backend/bin/python
SOURCES := build_addon.py pyproject.toml $(shell find blender_addon backend kernels -type f -not -path '*/__pycache__/*')
# What the camera of a scene of ours sees, an image file, or a prompt.
# With an image, a prompt says what it shows, if one is given.
GIVEN = $(if $(filter command environment,$(origin PROMPT)),--prompt "$$PROMPT")
ROCKET = --blend docs/camera.blend --camera --prompt "a white rocket with red parts"
SOURCE = $(if $(CAMERA),$(ROCKET),$(if $(IMAGE),--image "$$IMAGE" $(GIVEN),--prompt "$$PROMPT"))
ARGS = $(if $(ANIMATE),--frames 8) $(SOURCE) --seed "$$SEED" --out "$$OUT" --backend-python $(BACKEND)

.PHONY: demo test test-quick test-backend test-networks test-blender bench addon lint
.PRECIOUS: .venv-host-%/ready

# Prompt to scene.blend, preview.png and asset/ in OUT. IMAGE=file.png begins with an image, CAMERA=1 with what a camera sees, ANIMATE=1 makes the object move. BLENDER=/path/to/blender uses that one instead of bpy.
demo: export BLENDER_USER_RESOURCES := $(RESOURCES)
ifdef BLENDER
demo: .venv-backend/ready
	$(PYTHON) build_addon.py --out build --blender "$(BLENDER)"
	"$(BLENDER)" --command extension install-file --repo user_default --enable build/diorama.zip
	"$(BLENDER)" -b --python-exit-code 1 --python $(INSTALLED)/batch.py -- $(ARGS)
else
demo: .venv-backend/ready $(INSTALLED)/__init__.py
	$(HOST) $(INSTALLED)/batch.py $(ARGS)

$(INSTALLED)/__init__.py: export BLENDER_USER_RESOURCES := $(RESOURCES)
$(INSTALLED)/__init__.py: $(SOURCES) | .venv-host/ready
	$(HOST) build_addon.py --out build
	$(HOST) -c "import bpy; bpy.ops.extensions.package_install_files(filepath='build/diorama.zip', repo='user_default')"
endif

# The longest first, so that two cores are busy until the end.
test: .venv-backend/ready
	$(MAKE) --jobs 2 --output-sync=target test-backend test-networks test-blender lint \
		$(OLDER_BPY:%=test-blender-%) $(NEWER_BPY:%=test-blender-%)

test-quick: .venv-backend/ready .venv-host/ready
	$(BACKEND) -m pytest $(QUICK)
	$(HOST) -m pytest $(QUICK_IN_BLENDER)

test-backend: .venv-backend/ready
	$(BACKEND) -m pytest tests --ignore tests/blender --ignore tests/bench $(NETWORKS:%=--ignore %)

test-networks: .venv-backend/ready
	$(BACKEND) -m pytest $(NETWORKS)

test-blender: .venv-backend/ready .venv-host/ready
	$(HOST) -m pytest tests/blender

ifeq ($(PYTHON313),)
$(NEWER_BPY:%=test-blender-%): test-blender-%:
	@echo "Not tested in Blender $*: it needs Python 3.13; give PYTHON313=/path/to/python3.13"
endif

test-blender-%: .venv-host-%/ready
	.venv-host-$*/bin/python -m pytest $(IN_EVERY_BLENDER)

lint: .venv-backend/ready
	$(BACKEND) -m ruff check .
	$(BACKEND) -m ruff format --check .
	$(BACKEND) -m mypy

bench: .venv-backend/ready .venv-host/ready
	$(BACKEND) -m tests.bench.rasterization
	$(BACKEND) -m tests.bench.denoising
	$(HOST) -m tests.bench.bench_scene

addon: .venv-host/ready
	$(HOST) build_addon.py

# torch first and alone, so that what comes after takes the one that is there.
.venv-backend/ready: pyproject.toml
	$(PYTHON) -m venv .venv-backend
	$(PYTHON) build_addon.py --requirements backend cuda cluster evaluate train test > .venv-backend/requirements.txt
	$(BACKEND) -m pip install $$(grep '^torch==' .venv-backend/requirements.txt)
	$(BACKEND) -m pip install -r .venv-backend/requirements.txt
	touch $@

.venv-host/ready: pyproject.toml
	$(PYTHON) -m venv .venv-host
	$(PYTHON) build_addon.py --requirements host > .venv-host/requirements.txt
	$(HOST) -m pip install -r .venv-host/requirements.txt
	touch $@

# bpy is made for one Python: since 5.1 for 3.13, with numpy 2.
$(NEWER_BPY:%=.venv-host-%/ready): PYTHON_OF_BPY := $(PYTHON313)
$(NEWER_BPY:%=.venv-host-%/ready): NUMPY := numpy>=2
PYTHON_OF_BPY = $(PYTHON)
NUMPY := numpy<2

.venv-host-%/ready: pyproject.toml
	$(PYTHON_OF_BPY) -m venv .venv-host-$*
	$(PYTHON) build_addon.py --requirements host | sed 's/^bpy==.*/bpy==$*/; s/^numpy.*/$(NUMPY)/' \
		> .venv-host-$*/requirements.txt
	.venv-host-$*/bin/python -m pip install -r .venv-host-$*/requirements.txt
	touch $@
