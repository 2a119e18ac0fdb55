# The commands that a newcomer needs. Every command is printed before it runs, so that it can be copied and changed.
# Any variable can be set on the command line: make demo EPOCHS=10

VENV ?= .venv
PYTHON := $(VENV)/bin/python

# The demo: sized for 2 cores and a few minutes.
DEMO ?= demo
COUNT ?= 32
EPOCHS ?= 20
SIZE ?= 120 120 78
VOXEL ?= 2 2 2
SPACING ?= [2.0,2.0,2.0]
PATCH ?= [64,64,64]
BATCH ?= 2
LEARNING_RATE ?= 0.002
CORES ?= 2

# Train weights like the shipped ones on phantoms: the CLIP, the network, then the findings and clicks stages. With
# folders of labelled real cases, make weights REAL="/data/a /data/b" also fine-tunes and cross-validates on those.
WORK ?= runs/weights
WEIGHTS_COUNT ?= 600
CLIP_EPOCHS ?= 40
WEIGHTS_EPOCHS ?= 16
FINDING_EPOCHS ?= 5
UNSEEN_COUNT ?= 60
CLICK_EPOCHS ?= 4
REAL ?=
REAL_EPOCHS ?= 60
FOLDS ?= 4

# The MONAI Label server. CONF is passed on: make serve STUDIES=/data/BraTS2021 CONF="--conf preprocess never"
STUDIES ?=
PORT ?= 8000
CONF ?=

PYTEST_ARGS ?=

# One thread per process: phantoms and data loading already use the other cores.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help venv demo serve serve-demo doctor test test-fast lint weights clean

help:
	@echo "make venv       create $(VENV) with the pinned requirements (a few minutes, once)"
	@echo "make demo       make synthetic patients, train, evaluate, segment an unseen patient (6 minutes on 2 cores)"
	@echo "make serve      serve a folder of cases to 3D Slicer, or a DICOMweb server to OHIF and 3D Slicer: make serve STUDIES=..."
	@echo "make serve-demo the same with synthetic patients in a local DICOM server; prints the address to open"
	@echo "make doctor     check versions, weights, device, studies, DICOM server and disk: make doctor STUDIES=/data/cases"
	@echo "make test       ruff and all tests; set BRATS_DIR to a folder of BraTS cases to include the tests on real ones"
	@echo "make test-fast  only the fast tests"
	@echo "make weights    train weights like those in bundle/models, on new synthetic patients (about 4 hours on 2 cores)"
	@echo "make clean      remove files of the demo and the tests; keeps $(VENV), bundle/models, runs/ and your data"

venv:
	@scripts/make_venv.sh "$(VENV)"

demo: venv
	$(PYTHON) scripts/make_phantoms.py --output $(DEMO)/patients --count $(COUNT) --seed 11 \
	  --size $(SIZE) --spacing $(VOXEL)
	$(PYTHON) scripts/prepare_brats.py $(DEMO)/patients --output $(DEMO)/datalist.json \
	  --fractions 0.65 0.1 0.25
	OMP_NUM_THREADS=$(CORES) $(PYTHON) -m monai.bundle run training --config_file bundle/configs/train.json \
	  --bundle_root bundle --dataset_dir $(DEMO)/patients --datalist $(DEMO)/datalist.json \
	  --output_dir $(DEMO)/training --epochs $(EPOCHS) --spacing "$(SPACING)" --patch_size "$(PATCH)" \
	  --batch_size $(BATCH) --learning_rate $(LEARNING_RATE)
	OMP_NUM_THREADS=$(CORES) $(PYTHON) -m monai.bundle run evaluating \
	  --config_file "['bundle/configs/train.json','bundle/configs/evaluate.json']" \
	  --bundle_root bundle --dataset_dir $(DEMO)/patients --datalist $(DEMO)/datalist.json \
	  --output_dir $(DEMO)/evaluation --checkpoint $(DEMO)/training/checkpoints/model.pt \
	  --curves_file $(DEMO)/training/curves.csv --spacing "$(SPACING)"
	$(PYTHON) scripts/make_phantoms.py --output $(DEMO)/unseen --count 1 --seed 12
	OMP_NUM_THREADS=$(CORES) $(PYTHON) -m monai.bundle run inferring --config_file bundle/configs/inference.json \
	  --bundle_root bundle --dataset_dir $(DEMO)/unseen --output_dir $(DEMO)/segmentation \
	  --checkpoint $(DEMO)/training/checkpoints/model.pt --spacing "$(SPACING)"
	@echo
	@echo "Done. Look at"
	@echo "  $(DEMO)/evaluation/report.html          images and scores of patients the network has not seen"
	@echo "  $(DEMO)/evaluation/metrics.csv          the scores of each case"
	@echo "  $(DEMO)/training/curves.csv             the training curves"
	@ls $(DEMO)/segmentation/*/*_seg.nii.gz $(DEMO)/segmentation/*/*.json | sed 's/^/  /'

serve: venv
	@if [ -z "$(STUDIES)" ]; then \
	  echo "STUDIES is not set. Use make serve STUDIES=/data/cases, or STUDIES=http://127.0.0.1:8042/dicom-web" >&2; exit 2; fi
	OMP_NUM_THREADS=$(CORES) $(PYTHON) scripts/serve.py --studies "$(STUDIES)" --port $(PORT) $(CONF)

serve-demo: venv
	OMP_NUM_THREADS=$(CORES) $(PYTHON) scripts/serve_demo.py --work runs/serve_demo --port $(PORT) $(CONF)

doctor: venv
	$(PYTHON) scripts/doctor.py $(if $(STUDIES),--studies "$(STUDIES)") --port $(PORT) $(CONF)

lint: venv
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

# Most tests run in parallel; then those that measure response times, one at a time.
test: lint
	$(PYTHON) -m pytest -n $(CORES) --dist loadfile -m "not alone" $(PYTEST_ARGS)
	$(PYTHON) -m pytest -m alone $(PYTEST_ARGS)

test-fast: lint
	$(PYTHON) -m pytest -m "not slow and not e2e and not real" $(PYTEST_ARGS)

weights: venv
	$(PYTHON) scripts/make_phantoms.py --output $(WORK)/patients --count $(WEIGHTS_COUNT) --seed 1
	$(PYTHON) scripts/prepare_brats.py $(WORK)/patients --output $(WORK)/datalist.json --fractions 0.94 0.03 0.03
	$(PYTHON) -m monai.bundle run pretraining --config_file bundle/configs/pretrain_clip.json --bundle_root bundle \
	  --dataset_dir $(WORK)/patients --datalist $(WORK)/datalist.json --output_dir $(WORK)/clip \
	  --epochs $(CLIP_EPOCHS) --batch_size 16
	$(PYTHON) -m monai.bundle run training --config_file bundle/configs/train.json --bundle_root bundle \
	  --dataset_dir $(WORK)/patients --datalist $(WORK)/datalist.json --output_dir $(WORK)/training \
	  --clip_source $(WORK)/clip/clip --epochs $(WEIGHTS_EPOCHS) --patch_size "[96,96,96]" --min_size "[128,128,128]" \
	  --train#inferer#annotator '$$None'
	# Patients that the network was not trained on: half of them usual, half with shifted settings.
	$(PYTHON) scripts/make_phantoms.py --output $(WORK)/unseen --count $(UNSEEN_COUNT) --seed 2
	$(PYTHON) scripts/make_phantoms.py --output $(WORK)/unseen --count $(UNSEEN_COUNT) --seed 3 --shift 1
	$(PYTHON) scripts/prepare_brats.py $(WORK)/unseen --output $(WORK)/unseen.json --fractions 1 0 0
	$(PYTHON) -m monai.bundle run training \
	  --config_file "['bundle/configs/train.json','bundle/configs/train_findings.json']" --bundle_root bundle \
	  --dataset_dir $(WORK)/unseen --datalist $(WORK)/unseen.json --output_dir $(WORK)/findings \
	  --clip_source $(WORK)/clip/clip --pretrained $(WORK)/training/checkpoints/model.pt --epochs $(FINDING_EPOCHS) \
	  --min_size "[128,128,128]"
	$(PYTHON) -m monai.bundle run training \
	  --config_file "['bundle/configs/train.json','bundle/configs/train_clicks.json']" --bundle_root bundle \
	  --dataset_dir $(WORK)/patients --datalist $(WORK)/datalist.json --output_dir $(WORK)/clicks \
	  --clip_source $(WORK)/clip/clip --pretrained $(WORK)/findings/checkpoints/model.pt --epochs $(CLICK_EPOCHS) \
	  --patch_size "[96,96,96]" --min_size "[128,128,128]"
ifneq ($(REAL),)
	$(PYTHON) scripts/cross_validate.py --cases $(REAL) --phantoms $(WORK)/patients --phantom_share 0.2 --folds $(FOLDS) \
	  --pretrained $(WORK)/clicks/checkpoints/model.pt --epochs $(REAL_EPOCHS) --final --output $(WORK)/cross_validation \
	  --then train_clicks=$(CLICK_EPOCHS) --set clip_source=$(WORK)/clip/clip \
	  learning_rate=0.0008 "patch_size=[96,96,96]" "min_size=[128,128,128]" 'train#inferer#annotator=$$None'
	@echo "Fine-tuned on the real cases: $(WORK)/cross_validation/all/train_clicks/checkpoints/model.pt"
endif
	@echo "To use them: cp $(WORK)/clip/clip/* bundle/models/clip/ && cp $(WORK)/clicks/checkpoints/model.pt bundle/models/"

clean:
	rm -rf $(DEMO) .pytest_cache .ruff_cache .ci-venv
	find bundle scripts tests -type d -name __pycache__ -prune -exec rm -rf {} +
