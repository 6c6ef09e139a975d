"""Rename YAML keys: yamlkeys.py keys.tsv ; lines: path.pattern<TAB>new.  Run in the tree."""
import ast, pathlib, re, sys, collections, yaml
pats=[]
for line in open(sys.argv[1]):
    if line.strip() and not line.startswith('#'):
        a,b=line.rstrip('\n').split('\t')[:2]; pats.append((tuple(a.split('.')),b))
bylast=collections.defaultdict(set)
for p,b in pats: bylast[p[-1]].add(b)
log=[]
def match(path,partial): # ANCH
    best=None
    for p,b in pats:
        if p[0].startswith('^'):
            if len(path)==len(p) and (p[0][1:],)+p[1:]==tuple(path): best=(9,b)
            continue
        n=min(len(path),len(p))
        if all(path[-1-i]==p[-1-i] or p[-1-i]=='*' for i in range(n)):
            if len(path)>=len(p): 
                if best is None or len(p)>best[0]: best=(len(p),b)
            elif partial and best is None:
                c={b2 for p2,b2 in pats if p2[-1]==path[-1] and not p2[0].startswith('^') and all(path[-1-i]==p2[-1-i] or p2[-1-i]=='*' for i in range(min(len(path),len(p2))))}
                if len(c)==1: best=(0,b)
                else: log.append(f'ambiguous {path} {c}')
    return best and best[1]
def yaml_edits(text,partial,prefix=()):
    """list of (offset,old,new)"""
    try: node=yaml.compose(text,Loader=yaml.SafeLoader)
    except Exception: return None
    out=[]
    def walk(n,path):
        if isinstance(n,yaml.MappingNode):
            for k,v in n.value:
                if isinstance(k,yaml.ScalarNode):
                    p=(*path,k.value); new=match(p,partial)
                    if new and not k.style: out.append((k.start_mark.index,k.value,new))
                    walk(v,p)
        elif isinstance(n,yaml.SequenceNode):
            for x in n.value: walk(x,path)
    if node is None: return []
    walk(node,prefix); return out
def apply(text,edits):
    for o,old,new in sorted(set(edits),reverse=True):
        assert text[o:o+len(old)]==old,(text[o:o+20],old)
        text=text[:o]+new+text[o+len(old):]
    return text
DOTTED=re.compile(r'(?<![\w/.])(?:taggers|training|running|shifts|scores|report|groups|nuisances|objects|constituents|samples|processors|terms|posthoc|network|representation|exposure|reweight)(?:\.[\w-]+)+')
def dotted(text):
    def f(m):
        parts=m[0].split('.'); path=[]; out=[]
        for x in parts:
            if x.isdigit(): out.append(x); continue
            path.append(x); new=match(tuple(path),False); out.append(new or x)
        return '.'.join(out)
    return DOTTED.sub(f,text)
n=0
for p in sorted(pathlib.Path('analysis_configs').rglob('*.yaml')):
    t=p.read_text(); e=yaml_edits(t,False)
    if e is None: log.append(f'{p}: no yaml'); continue
    new=apply(t,e); new='\n'.join(re.sub(r'#.*',lambda m: dotted(m[0]),l) for l in new.split('\n')); n+=len(e); p.write_text(new)
for p in [pathlib.Path('README.md'),*sorted(pathlib.Path('docs').glob('*.md')),*sorted(pathlib.Path('models').glob('*.md'))]:
    t=p.read_text()
    def f(m):
        global n
        e=yaml_edits(m[2],True)
        if e is None: log.append(f'{p}: block not parsed'); return m[0]
        n+=len(e); return m[1]+apply(m[2],e)+m[3]
    t=re.sub(r'(```yaml\n)(.*?)(```)',f,t,flags=re.S)
    def g(m):
        global n
        e=yaml_edits(m[1],True) if ':' in m[1] else None
        if not e: return '`'+dotted(m[1])+'`'
        n+=len(e); return '`'+apply(m[1],e)+'`'
    t=re.sub(r'`([^`\n]+)`',g,t); p.write_text(t)
for root in ('tests','benchmarks','hepdecorr'):
    for p in sorted(pathlib.Path(root).rglob('*.py')):
        t=p.read_text(); b=t.encode(); tree=ast.parse(t)
        starts=[0]
        for l in b.split(b'\n'): starts.append(starts[-1]+len(l)+1)
        edits=[]
        def off(x): return starts[x.lineno-1]+x.col_offset
        def dicts(d,path):
            for k,v in zip(d.keys,d.values):
                if isinstance(k,ast.Constant) and isinstance(k.value,str):
                    pp=(*path,k.value); new=match(pp,True)
                    if new and root!='hepdecorr': edits.append((off(k)+1,k.value.encode(),new.encode()))
                    elif new: log.append(f'{p}:{k.lineno}: dict key {pp} -> {new}? not applied in package')
                    sub(v,pp)
                else: sub(v,path)
        inside=set()
        def sub(v,path):
            if isinstance(v,ast.Dict): inside.add(id(v)); dicts(v,path)
            elif isinstance(v,(ast.List,ast.Tuple)):
                for x in v.elts: sub(x,path)
            elif isinstance(v,ast.BinOp): sub(v.left,path); sub(v.right,path)
        for x in ast.walk(tree):
            if isinstance(x,ast.Dict) and id(x) not in inside: inside.add(id(x)); dicts(x,())
            elif isinstance(x,ast.Subscript) and isinstance(x.slice,ast.Constant) and isinstance(x.slice.value,str) and x.slice.value in bylast:
                log.append(f'{p}:{x.lineno}: subscript {ast.unparse(x)[:70]} -> {bylast[x.slice.value]}')
            elif isinstance(x,ast.Constant) and isinstance(x.value,str):
                seg=b[off(x):starts[x.end_lineno-1]+x.end_col_offset].decode()
                if root=='hepdecorr': continue
                if '\n' in x.value and seg.startswith(('"""','r"""','f"""')):
                    q=seg.index('"""')+3; body=seg[q:-3]
                    e=yaml_edits(body,True) if ':' in body else None
                    if e:
                        ob=len(seg[:q].encode())
                        for o,old,new in e: edits.append((off(x)+ob+len(body[:o].encode()),old.encode(),new.encode()))
                    elif e is None and re.search(r'^\s*[\w-]+:',body,re.M): log.append(f'{p}:{x.lineno}: yaml string not parsed')
                else:
                    d=dotted(seg)
                    if d!=seg: edits.append((off(x),seg.encode(),d.encode()))
                    elif ':' in x.value and '{' in x.value:
                        e=yaml_edits(seg[1:-1],True) if seg[0] in '"\'' else None
                        if e:
                            for o,old,new in e: edits.append((off(x)+1+len(seg[1:-1][:o].encode()),old.encode(),new.encode()))
        for o,old,new in sorted(set(edits),reverse=True):
            if b[o:o+len(old)]!=old: log.append(f'{p}: position {old}'); continue
            b=b[:o]+new+b[o+len(old):]
        n+=len(edits)
        if b!=t.encode(): p.write_bytes(b)
print('yaml edits',n,'log',len(log)); open('tmp/tool/yamlkeys.log','w').write('\n'.join(log))
