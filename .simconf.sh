cd /work/main; export CONFORMANCE_EXAMPLES=$(cat .simconf.args); .venv/bin/python -m pytest tests/kernel/test_conformance.py -k random -q -p no:cacheprovider --color=no --tb=short 2>&1
