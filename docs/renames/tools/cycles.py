import ast,pathlib,sys
mods={}
for p in pathlib.Path('hepdecorr').rglob('*.py'): mods['.'.join(p.with_suffix('').parts).removesuffix('.__init__')]=p
g={}
for m,p in mods.items():
    d={}
    for n in ast.parse(p.read_text()).body:
        xs=[n] if not (isinstance(n,ast.If)) else n.body
        for x in xs:
            if isinstance(x,ast.ImportFrom) and x.module and x.module.startswith('hepdecorr'):
                for a in x.names:
                    f=f'{x.module}.{a.name}'
                    d.setdefault(f if f in mods else x.module,set()).add(a.name+('*' if n is not x else ''))
    d.pop(m,None); g[m]=d
sys.setrecursionlimit(10000)
idx={};low={};st=[];on=set();out=[]
def sc(v):
    idx[v]=low[v]=len(idx);st.append(v);on.add(v)
    for w in g.get(v,()):
        if w not in idx: sc(w);low[v]=min(low[v],low[w])
        elif w in on: low[v]=min(low[v],idx[w])
    if low[v]==idx[v]:
        c=[]
        while True:
            w=st.pop();on.discard(w);c.append(w)
            if w==v:break
        if len(c)>1: out.append(c)
for v in list(g):
    if v not in idx: sc(v)
for c in out: 
    print('CYCLE')
    for a in c: print('   ',a,'->',{b:g[a][b] for b in g[a] if b in c})
print(len(out),'cycles',len(mods),'modules')
