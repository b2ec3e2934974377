import sys, multiprocessing, tempfile, torch, time
from tests.ranks.work import work
from tests.ranks.splits import ALL
if __name__=="__main__":
    names=[n for n in ALL if len(sys.argv)<2 or any(a in n for a in sys.argv[1:] if a[0]!="@")]
    print(len(names))
    t=time.time()
    with tempfile.TemporaryDirectory() as d:
        multiprocessing.set_forkserver_preload(["lossfold","tests.ranks.splits"])
        torch.multiprocessing.start_processes(work,(d,names,[a[1:] for a in sys.argv[1:] if a[0]=="@"]),nprocs=3,start_method="forkserver")
        for r in range(3):
            w=torch.load(f"{d}/{r}.pt",weights_only=False)
            print(r,len(w)-1,w.pop("seconds"))
            if r==0 or True:
                for k,v in list(w.items())[:6]: print(k,v[-1500:] if isinstance(v,str) else v)
    print(time.time()-t)
