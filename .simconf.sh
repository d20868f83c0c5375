cd /work/main; .venv/bin/python -m pytest tests/kernel/test_conformance.py -q -p no:cacheprovider --color=no --tb=short $(cat .simconf.args) 2>&1
