import os,sys,pathlib
import torch,lightning_fabric,numpy,scipy,pyarrow,yaml,pydantic,sklearn
import coffea.nanoevents, uproot, awkward, hist, matplotlib, onnx, onnxruntime
bad=0
for p in sorted(pathlib.Path('hepdecorr').rglob('*.py')):
    m='.'.join(p.with_suffix('').parts).removesuffix('.__init__')
    pid=os.fork()
    if pid==0:
        try:
            __import__(m)
        except Exception as e:
            print(m,repr(e)[:160],flush=True); os._exit(1)
        os._exit(0)
    _,st=os.waitpid(pid,0); bad+=st!=0
print('bad',bad)
