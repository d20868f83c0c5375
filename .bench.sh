cd /work/main/benchmarks; export PATH=/work/main/.venv/bin:$PATH
python many.py; tail -3 /run/bench/log
