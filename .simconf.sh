cd /work/main; .venv/bin/python .simconf.py $(cat .simconf.args) 2>&1
