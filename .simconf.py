import random, sys, tempfile, time, subprocess
sys.path.insert(0, "/work/main")
from pathlib import Path
from tests.conformance import operations as op
from tests.kernel.test_conformance import compared
rnd = random.Random(int(sys.argv[1])); end = time.time() + float(sys.argv[2])
folder = Path(tempfile.mkdtemp(prefix="dmrtest-", dir="/run"))
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1G", "x", str(folder)], check=True)
T=["t0","t1","t2"]; A=["pool",*T]
def one(r, k):
    c = r.random()
    n = r.choice(A); t = r.choice(T); i = r.randrange(4)
    def readable(name, write=False):
        info = k.simulated.kernel.dm.info(k.simulated.prefix+name)
        return info is not None and info.live_table and not (write and info.read_only)
    P=lambda: op.LoadPool("pool", r.choice([6,8,16,24]), r.randrange(5), r.choice(["1 error_if_no_space","2 no_discard_passdown error_if_no_space"]))
    opts=[lambda:[op.Create(n, r.choice(["","p","q"]))], lambda:[P()], lambda:[P(),op.Resume("pool")], lambda:[op.LoadThin(t,str(i),r.choice([16,32]),r.random()<.3)],
     lambda:[op.LoadThin(t,str(i)),op.Resume(t)],
     lambda:[op.Create(t),op.LoadThin(t,str(i)),op.Resume(t)], lambda:[op.load_error(t)], lambda:[op.Resume(n)], lambda:[op.Resume("pool")], lambda:[op.Suspend(n)], lambda:[op.Remove(n)],
     lambda:[op.RemoveDeferred(n)] if r.random()<.3 else [], lambda:[op.Clear(n)], lambda:[op.Rename(t,r.choice(T))], lambda:[op.Message("pool",f"create_thin {i}")], lambda:[op.Message("pool",f"create_thin {i}")],
     lambda:[op.Message("pool",f"create_snap {i} {r.randrange(4)}")],lambda:[op.Message("pool",f"create_snap {i} {r.randrange(4)}")], lambda:[op.Message("pool",f"delete {i}")], lambda:[op.Message("pool",f"set_transaction_id {r.randrange(3)} {r.randrange(3)}")],
     lambda:[op.Message("pool",r.choice(["reserve_metadata_snap","release_metadata_snap","@cancel_deferred_remove"]))],
     lambda:[op.ThinIds("pool")] if r.random()<.2 else [],
     lambda:[op.Write(t,r.randrange(8),r.choice("ab"))] if readable(t,True) else [], lambda:[op.Write(t,r.randrange(8),r.choice("ab"))] if readable(t,True) else [], lambda:[op.Write(t,r.randrange(8),r.choice("ab"))] if readable(t,True) else [],
     lambda:[op.Read(t,r.randrange(8))] if readable(t) else [],
     lambda:[op.Grow("data", r.choice([24,32,40]))] if r.random()<.3 else [],
     lambda:[op.PowerCut("metadata"),op.Create("pool","p"),op.LoadPool("pool",24),op.Resume("pool")] if r.random()<.4 else []]
    for o in r.choice(opts)(): k.play(o)
count=fails=0
while time.time()<end and fails<6:
    seed=rnd.randrange(10**9); r=random.Random(seed); count+=1
    try:
        with compared(folder) as k:
            for o in (op.Create("pool","p"),op.LoadPool("pool",r.choice([6,16])),op.Resume("pool"),op.Message("pool","create_thin 0"),op.Create("t0"),op.LoadThin("t0","0"),op.Resume("t0")): k.play(o)
            for _ in range(40): one(r,k)
    except AssertionError as e:
        fails+=1; print("SEED",seed,str(e)[:6000],flush=True)
print("count",count,"fails",fails,flush=True)
