# The commands of the README, the hooks and CI. Each one sets up what it needs; a second call costs nothing.

# cpu or gpu: which lock is installed; once one is, it stays
DEVICE ?= $(or $(patsubst .venv/ready-%,%,$(firstword $(wildcard .venv/ready-*))),cpu)
# makes .venv; any of 3.11 to 3.13
PYTHON ?= python3
# the remote of DVC for `make pull` and `make push`, by default the one that `dvc remote default` names; `make repro` asks one
# only where it is named here, and makes it this clone's default
REMOTE ?=
# `make repro`: how many stages at a time; or one model alone
JOBS ?= 1
MODEL ?=
# `make accept`: the commit before the merge; by default the one before the last
SINCE ?=
# where `make lock` writes
LOCKS ?= requirements

# DVC starts stages by name, from PATH; a SHELL of our own makes old versions of make look there too
export PATH := $(CURDIR)/.venv/bin:$(PATH)
SHELL := bash

# nothing calls home, and pip does not advertise itself
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
# TensorFlow tells warnings and errors alone
export TF_CPP_MIN_LOG_LEVEL := 2
# uv trusts the system's certificates, a company's own authority among them
export UV_SYSTEM_CERTS := 1

ifeq ($(filter cpu gpu,$(DEVICE)),)
$(error DEVICE is '$(DEVICE)'; it must be cpu or gpu)
endif

ready := .venv/ready-$(DEVICE)
lock := requirements/$(DEVICE).lock
pip := .venv/bin/python -m pip
# to train on the CPU instead would take hours before anybody sees it
gpu := import sys, tensorflow as tf; sys.exit(not tf.config.list_physical_devices("GPU") and "error: DEVICE is gpu, but TensorFlow sees none")

.DEFAULT_GOAL := help
.PHONY: help setup repro pull push changed settled offer accept drift retrain ui serve screenshots bench bench-serving bench-seeds bench-transfer lessons results test test-slow test-all newest check format lock dist release

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

setup: $(ready) ## Install what all the rest needs, in .venv

repro: $(ready) ## Run the whole line: what has not changed is not run again; JOBS=2 runs independent stages side by side
	@if ! git rev-parse --is-inside-work-tree >/dev/null 2>&1; then dvc config --local core.no_scm true; \
		elif grep -qs no_scm .dvc/config.local; then dvc config --local --unset core.no_scm; fi
	$(if $(filter gpu,$(DEVICE)),@python -c '$(gpu)')
	$(if $(REMOTE),dvc remote default --local $(REMOTE)) # the one that DVC's --pull knows
	trainyard repro $(if $(REMOTE),--pull) $(addprefix evaluate@,$(MODEL)) $(if $(filter-out 1,$(JOBS)),--jobs $(JOBS))

pull: $(ready) ## Fetch from the remote what dvc.lock names, and prove it whole
	dvc pull --allow-missing $(addprefix --remote ,$(REMOTE)) # a model that dvc.lock does not know yet is no fault
	trainyard verify

push: $(ready) ## Send to the remote what dvc.lock names, and prove that it holds it whole
	trainyard verify
	dvc push --run-cache $(addprefix --remote ,$(REMOTE))
	trainyard verify --remote $(REMOTE)

changed: $(ready) ## Say which stages data, params and code have left behind; a fresh clone can be asked
	trainyard changed

settled: $(ready) ## Fail where the line has something to do still, or has changed more than its lock and its reports
	@told=$$(dvc repro --dry) && ! grep "Running stage" <<< "$$told"
	@! git status --porcelain -- . ':!dvc.lock' ':!reports' | grep .

offer: $(ready) ## Push dvc.lock and reports/, and open or update a pull request about them (git, and GitHub's gh)
	$(if $(wildcard result),cp -r $(addprefix result/,dvc.lock report reports) .) # what another machine has made
	trainyard offer

accept: $(ready) ## Make champion what the last merge, or all since the commit SINCE, has brought, if it passed its gate
	trainyard accept $(addprefix --since ,$(SINCE)) --why "merged as $$(git rev-parse --short HEAD)"

drift: $(ready) ## Hold NEW_DATA against DATASET as it was trained on; fails where it has drifted
	dvc repro --quiet "prepare@$$DATASET"
	trainyard drift "$$DATASET" "$$NEW_DATA"

retrain: ## Start the workflow retrain.yml on GitHub (gh)
	gh workflow run retrain.yml

ui: $(ready) ## Open the runs and the registry in the MLflow UI
	trainyard ui

serve: $(ready) ## Answer over HTTP, and on a page, as all champions do; or MODEL alone
	trainyard serve $(MODEL)

screenshots: $(ready) ## Make the pictures of the README anew, from a line that has run (apt-get install chromium-driver)
	PYTHONPATH=tests python scripts/make_screenshots.py

bench: repro ## Measure how fast steps and whole jobs are, beside Keras, PyTorch and JAX (about 25 minutes; installs PyTorch)
	$(pip) install --quiet --no-build-isolation --editable '.[bench]'
	python benchmarks/speed.py
	python benchmarks/jobs.py

bench-serving: repro ## Measure the server of models beside MLflow's own (about 15 minutes)
	python benchmarks/serving.py

bench-seeds: $(ready) ## Measure what the shipped models are worth over five seeds (about 35 minutes on two cores)
	python benchmarks/seeds.py

bench-transfer: $(ready) ## Measure what pretrained weights are worth on four tasks (hours; PHOTOS=FOLDER, KERAS_HOME=FOLDER)
	[ -d data/fetched/fashion_mnist ] || trainyard fetch fashion_mnist
	python benchmarks/transfer.py $(if $(PHOTOS),--photos '$(PHOTOS)')

lessons: $(ready) ## Train what docs/lessons.md tells, and write its tables and curves (about 40 minutes on two cores)
	python benchmarks/lessons.py

results: repro ## Write the figures of README's table of what ships, with device and minutes
	python scripts/make_results.py

test: $(ready) ## Run the fast tests, on all cores
	pytest -m "not slow and not fault" --numprocesses auto --dist loadfile --no-loadscope-reorder --cov

test-slow: $(ready) ## Run the slow tests and those that break things
	pytest -m "slow or fault"

test-all: $(ready) ## Run all tests
	pytest

newest: $(ready) ## Run the fast tests with the newest PACKAGE (dvc, mlflow, keras ...); `make setup` goes back to the lock
	rm $(ready)
	uv pip install --python .venv/bin/python --upgrade-package "$$PACKAGE" "$$PACKAGE"
	pytest -m "not slow and not fault"

check: $(ready) ## Check format, lint, types, layers, workflows, locks and the params schema
	ruff format --check
	ruff check
	mypy
	lint-imports --no-logo --no-cache
	zizmor --offline --strict-collection --persona auditor --no-progress --quiet .github/workflows
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	check-jsonschema --builtin-schema custom.github-workflows-require-timeout .github/workflows/*.yml
	scripts/check_lock.sh
	trainyard schema --check

format: $(ready) ## Format the code, and mend what ruff can mend
	ruff check --fix-only
	ruff format

lock: $(ready) ## Compile requirements/*.lock from pyproject.toml; UPGRADE=--upgrade takes the newest releases
	for device in cpu gpu; do \
		uv pip compile pyproject.toml --universal --python-version 3.11 --extra $$device --extra dev --quiet $(UPGRADE) \
			--generate-hashes --no-emit-index-url --no-header --output-file $(LOCKS)/$$device.lock || exit; \
	done

dist: $(ready) ## Build the package in dist/; on a tag of GitHub's only where tag, version and changelog agree
	scripts/check_tag.sh
	uv build --quiet --no-build-isolation --python .venv/bin/python --clear

release: ## Publish dist/ as a release of the tag GITHUB_REF_NAME on GitHub (gh)
	awk -v heading="## [$${GITHUB_REF_NAME#v}]" '/^## / {on = index($$0, heading) == 1; next} on' CHANGELOG.md \
		| gh release create "$$GITHUB_REF_NAME" dist/* --verify-tag --title "$$GITHUB_REF_NAME" --notes-file -

# uv, in the version and with the hashes of the lock, does in seconds what pip does in minutes; where uv cannot be had or
# does not reach the index (it does not read pip's configuration), pip installs the same packages. Both compile them once:
# a line is two dozen processes that import the same ones.
$(ready): $(lock) pyproject.toml
	$(if $(filter-out $(ready),$(wildcard .venv/ready-*)),rm -rf .venv # the packages of the other device)
	@$(pip) --version >/dev/null 2>&1 || { rm -rf .venv && $(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) \
		or sys.exit("error: $(PYTHON) is Python %d.%d, needed is 3.11 to 3.13: make PYTHON=python3.12" % sys.version_info[:2])' \
		&& $(PYTHON) -m venv .venv; }
	sed -n '/^uv==/,/[^\\]$$/p' $< | $(pip) install --quiet --require-hashes --requirement /dev/stdin \
		&& uv pip sync --python .venv/bin/python --require-hashes --compile-bytecode $< \
		|| $(pip) install --require-hashes --requirement $<
	$(pip) install --quiet --no-deps --no-build-isolation --editable .
	@# DVC keeps pickles there: by default in a folder that everybody on the machine may write to
	install -d -m 700 .dvc/tmp/site && .venv/bin/dvc config --local core.site_cache_dir "$(CURDIR)/.dvc/tmp/site"
	@# the page of DVC's own plots loads Vega from the network
	.venv/bin/python scripts/make_plots_page.py .venv/plots.html && .venv/bin/dvc config --local plots.html_template "$(CURDIR)/.venv/plots.html"
	@touch $@
