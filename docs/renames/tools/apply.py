"""Apply rename tables to a tree (cwd must be the tree on which the index was made)."""
import ast, pickle, sys, pathlib, collections, re, json, keyword
idx=pickle.load(open('tmp/tool/index.pkl','rb')); files=idx['files']; classes=idx['classes']
def canon(cls,name):
    c=classes.get(cls)
    if not c: return cls
    found=None
    for b in c[0]:
        if b in classes and name in classes[b][1]: found=b
    return found or cls
def canon_func(full):
    """canonical func full name for args: topmost overridden method, except __init__"""
    cls,_,name=full.rpartition('.')
    if cls in classes and name not in('__init__','__new__','__post_init__'): return f'{canon(cls,name)}.{name}'
    return full
CHANGED=set(filter(None,__import__('os').environ.get('CHANGED','').split(',')))
SYM={}; MEM={}; ARG={}; notes=[]; other=[]
problems=[]
for t in sys.argv[1:]:
    for ln,line in enumerate(open(t),1):
        line=line.rstrip('\n')
        if not line.strip() or line.startswith('#'): continue
        p=line.split('\t'); kind=p[0].strip()
        try:
            if kind=='sym': d,k,v=SYM,p[1].strip(),p[2].strip()
            elif kind=='mem':
                cls,_,n=p[1].strip().rpartition('.'); d,k,v=MEM,(canon(cls,n),n),p[2].strip()
                if cls not in classes: problems.append(f'{t}:{ln}: class {cls} unknown')
            elif kind=='arg':
                m=re.fullmatch(r'(.+?)[\(:](\w+)\)?',p[1].strip().replace(').__init__(','.__init__('))
                d,k,v=ARG,(canon_func(m[1]),m[2]),p[2].strip()
                if m[1] in classes: k=(m[1]+'.__init__',m[2])
            else: other.append((t,line)); continue
        except Exception as e: problems.append(f'{t}:{ln}: {line!r}: {e}'); continue
        if not v.isidentifier() or keyword.iskeyword(v): problems.append(f'{t}:{ln}: bad new name {v!r}'); continue
        if k in d and d[k]!=v: problems.append(f'{t}:{ln}: {k} renamed twice: {d[k]} / {v}'); continue
        d[k]=v
# fallback by attribute name
byname=collections.defaultdict(set)
for (c,n),v in MEM.items(): byname[n].add(v)
alldefs=collections.defaultdict(set)
for c,(mro,names) in classes.items():
    if c.startswith('hepdecorr'):
        for n in names: alldefs[n].add((canon(c,n)))
unrenamed={n for n,cs in alldefs.items() if any((c,n) not in MEM for c in cs)}
argbyname=collections.defaultdict(set)
for (f,n),v in ARG.items(): argbyname[n].add(v)
log=collections.defaultdict(list)
used=collections.Counter()
def new_sym(full):
    v=SYM.get(full)
    if v: used['sym',full]+=1
    return v
def new_target(t,tok):
    if t[0]=='sym':
        full=t[1]; v=new_sym(full)
        if v and full.rpartition('.')[2]==tok: return v
        return None
    if t[0]=='mem':
        k=(canon(t[1],t[2]),t[2]); v=MEM.get(k)
        if v: used['mem',k]+=1
        return v
    if t[0]=='arg':
        k=(canon_func(t[1]),t[2]); v=ARG.get(k)
        if v: used['arg',k]+=1
        return v
def process(path,info):
    src=pathlib.Path(path).read_bytes(); text=src.decode()
    lines=src.split(b'\n'); starts=[0]
    for l in lines: starts.append(starts[-1]+len(l)+1)
    tree=ast.parse(text); edits={}
    def put(line,col,old,new,why=''):
        o=starts[line-1]+col
        if src[o:o+len(old)]!=old.encode():
            log['position'].append(f'{path}:{line}:{col} expected {old} found {src[o:o+len(old)]}'); return
        if (o in edits) and edits[o]!=(old,new): log['conflict'].append(f'{path}:{line}: {edits[o]} / {(old,new)}'); return
        edits[o]=(old,new)
    mod=info['module']; modnames=info['modnames']
    def resolve_global(name):
        full=modnames.get(name)
        if not full or full.startswith('MODULE:'): return None
        return full
    # definitions
    def defs(node,qual,kind,funcs):
        for ch in ast.iter_child_nodes(node):
            if isinstance(ch,(ast.FunctionDef,ast.AsyncFunctionDef,ast.ClassDef)):
                kw={ast.FunctionDef:'def ',ast.AsyncFunctionDef:'async def ',ast.ClassDef:'class '}[type(ch)]
                full=f'{qual}.{ch.name}'
                v=None
                if kind=='module': v=new_target(('sym',full),ch.name)
                elif kind=='class': v=new_target(('mem',qual,ch.name),ch.name)
                if v: put(ch.lineno,ch.col_offset+len(kw),ch.name,v)
                if isinstance(ch,ast.ClassDef): defs(ch,full,'class',funcs)
                else:
                    for a in ast.walk(ch.args):
                        if isinstance(a,ast.arg):
                            # lambdas in defaults are rare
                            v=new_target(('arg',full,a.arg),a.arg) if kind!='func' else None
                            if v: put(a.lineno,a.col_offset,a.arg,v)
                    defs(ch,full,'func',funcs)
            else: defs(ch,qual,kind,funcs)
    defs(tree,mod,'module',[])
    scope_of={}
    def fillscope(node,fn):
        for ch in ast.iter_child_nodes(node):
            scope_of[id(ch)]=fn
            fillscope(ch,ch if isinstance(ch,(ast.FunctionDef,ast.AsyncFunctionDef)) else fn)
    fillscope(tree,None)
    # annotations & strings
    annots=[]
    for n in ast.walk(tree):
        if isinstance(n,ast.arg) and n.annotation: annots.append(n.annotation)
        elif isinstance(n,(ast.FunctionDef,ast.AsyncFunctionDef)) and n.returns: annots.append(n.returns)
        elif isinstance(n,ast.AnnAssign): annots.append(n.annotation)
        elif isinstance(n,ast.Call):
            f=n.func
            if isinstance(f,ast.Name) and f.id=='cast' and n.args: annots.append(n.args[0])
    def annot(e):
        for n in ast.walk(e):
            if isinstance(n,ast.Name):
                full=resolve_global(n.id)
                if full:
                    v=new_target(('sym',full),n.id)
                    if v: put(n.lineno,n.col_offset,n.id,v)
            elif isinstance(n,ast.Attribute) and isinstance(n.value,ast.Name):
                full=modnames.get(n.value.id,'')
                if full.startswith('MODULE:hepdecorr'):
                    m2=full[7:]; p2=[f for f in files.values() if f['module']==m2]
                    if p2:
                        g=p2[0]['modnames'].get(n.attr)
                        if g:
                            v=new_target(('sym',g),n.attr)
                            if v: put(n.end_lineno,n.end_col_offset-len(n.attr),n.attr,v)
            elif isinstance(n,ast.Constant) and isinstance(n.value,str) and re.match(r'^[\w\.\[\], |]+$',n.value):
                seg=src[starts[n.lineno-1]+n.col_offset:starts[n.end_lineno-1]+n.end_col_offset]
                for m in re.finditer(rb'[A-Za-z_]\w*',seg):
                    full=resolve_global(m[0].decode())
                    if full:
                        v=new_target(('sym',full),m[0].decode())
                        if v: put(n.lineno,n.col_offset+m.start(),m[0].decode(),v)
    for a in annots: annot(a)
    # base classes, decorators: resolved by names too, but be safe
    for n in ast.walk(tree):
        if isinstance(n,ast.ClassDef):
            for b in n.bases: annot(b)
        elif isinstance(n,ast.ImportFrom) and n.module and n.module.split('.')[0] in('hepdecorr','processors','benchmarks','tests'):
            src_mod=[f for f in files.values() if f['module']==n.module]
            for a in n.names:
                g=src_mod[0]['modnames'].get(a.name) if src_mod else None
                if g and not g.startswith('MODULE:'):
                    v=new_target(('sym',g),a.name)
                    if v: put(a.lineno,a.col_offset,a.name,v)
        elif isinstance(n,ast.Assign) and len(n.targets)==1 and isinstance(n.targets[0],ast.Name) and n.targets[0].id=='__all__' or isinstance(n,ast.AugAssign) and isinstance(n.target,ast.Name) and n.target.id=='__all__':
            for c in ast.walk(n.value):
                if isinstance(c,ast.Constant) and isinstance(c.value,str):
                    g=resolve_global(c.value)
                    if g:
                        v=new_target(('sym',g),c.value)
                        if v: put(c.lineno,c.col_offset+1,c.value,v)
        elif isinstance(n,(ast.Global,ast.Nonlocal)):
            if isinstance(n,ast.Global):
                for name in n.names:
                    if SYM.get(f'{mod}.{name}'): log['global'].append(f'{path}:{n.lineno} {name}')
        elif isinstance(n,ast.Call):
            # keywords
            t=info['calls'].get((n.lineno,n.col_offset,n.end_lineno,n.end_col_offset))
            for k in n.keywords:
                if k.arg is None:
                    dicts=[]
                    if isinstance(k.value,ast.Dict): dicts=[k.value]
                    elif isinstance(k.value,ast.Name):
                        f0=scope_of.get(id(n))
                        for x in ast.walk(f0 or tree):
                            if isinstance(x,(ast.Assign,ast.AnnAssign,ast.AugAssign)):
                                tg=x.targets[0] if isinstance(x,ast.Assign) else x.target
                                if isinstance(tg,ast.Name) and tg.id==k.value.id and x.value is not None:
                                    dicts+=[y for y in ast.walk(x.value) if isinstance(y,ast.Dict)]+[y for y in ast.walk(x.value) if isinstance(y,ast.Call) and isinstance(y.func,ast.Name) and y.func.id=='dict']
                                elif isinstance(tg,ast.Subscript) and isinstance(tg.value,ast.Name) and tg.value.id==k.value.id: dicts.append(tg)
                    for dct in dicts:
                        if isinstance(dct,ast.Dict): keys=[c for c in dct.keys if isinstance(c,ast.Constant) and isinstance(c.value,str)]
                        elif isinstance(dct,ast.Subscript): keys=[dct.slice] if isinstance(dct.slice,ast.Constant) and isinstance(dct.slice.value,str) else []
                        else: keys=[]
                        for c in keys:
                            v=None
                            for x in t or []:
                                if x[0]=='fields': v=v or new_target(('mem',x[1],c.value),c.value)
                                elif x[0]=='func': v=v or new_target(('arg',x[1],c.value),c.value)
                            if v: put(c.lineno,c.col_offset+1,c.value,v); log['dictkey done'].append(f'{path}:{c.lineno}: {c.value} -> {v}')
                            elif c.value in argbyname or c.value in byname: log['dictkey?'].append(f'{path}:{c.lineno}: {c.value} for {ast.unparse(n.func)[:40]} at {n.lineno}; candidates {sorted(argbyname.get(c.value,set())|byname.get(c.value,set()))}')
                    continue
                v=None; done=False
                fn0=n.func.attr if isinstance(n.func,ast.Attribute) else n.func.id if isinstance(n.func,ast.Name) else ''
                if fn0 in('build','_build','_make') and k.arg in argbyname: log['buildkw'].append(f'{path}:{k.lineno}: {ast.unparse(n)[:90]} {k.arg} candidates {argbyname[k.arg]}')
                for x in t or []:
                    if x[0]=='fields': v=v or new_target(('mem',x[1],k.arg),k.arg); done=True
                    elif x[0]=='func': v=v or new_target(('arg',x[1],k.arg),k.arg); done=True
                    elif x[0]=='lib': done=True
                if not done and (k.arg in argbyname or k.arg in byname):
                    c=argbyname.get(k.arg,set())|byname.get(k.arg,set())
                    near={v2 for (f2,a2),v2 in ARG.items() if a2==k.arg and (f2.rsplit('.',1)[-1]==fn0 or f2.endswith(f'.{fn0}.__init__'))}|{v2 for (c2,a2),v2 in MEM.items() if a2==k.arg and c2.rsplit('.',1)[-1]==fn0}
                    if len(near)==1: v=next(iter(near)); log['kwarg near'].append(f'{path}:{k.lineno}: {ast.unparse(n.func)[:60]}({k.arg}= -> {v})')
                    elif path.startswith('tests') and len(c)==1 and t and t[0][0]=='func' and t[0][1].startswith('tests'): v=next(iter(c)); log['kwarg tests'].append(f'{path}:{k.lineno}: {ast.unparse(n.func)[:60]}({k.arg}= -> {v})')
                    else:
                      pass
                if not done and not v and (k.arg in argbyname or k.arg in byname):
                    c=argbyname.get(k.arg,set())|byname.get(k.arg,set())
                    log['kwarg?'].append(f'{path}:{k.lineno}: {ast.unparse(n.func)[:60]}({k.arg}=) candidates {sorted(c)}')
                if v: put(k.lineno,k.col_offset,k.arg,v)
            # setattr / getattr / monkeypatch
            f=n.func; fn=f.attr if isinstance(f,ast.Attribute) else f.id if isinstance(f,ast.Name) else ''
            if fn in('setattr','getattr','delattr','hasattr','attrgetter') :
                for c in n.args:
                    if isinstance(c,ast.Constant) and isinstance(c.value,str) and (c.value in byname or any(s.endswith('.'+c.value) for s in SYM)):
                        o=n.args[0]; v=None
                        if isinstance(o,ast.Name) and modnames.get(o.id,'').startswith('MODULE:'):
                            m2=modnames[o.id][7:]; p2=[f for f in files.values() if f['module']==m2]
                            g=p2 and p2[0]['modnames'].get(c.value)
                            if g: v=new_target(('sym',g),c.value)
                        elif isinstance(o,ast.Name) and modnames.get(o.id) in classes: v=new_target(('mem',modnames[o.id],c.value),c.value)
                        if v: put(c.lineno,c.col_offset+1,c.value,v)
                        else: log['attrstring'].append(f'{path}:{c.lineno}: {ast.unparse(n)[:120]}')
    EXT={(a.asname or a.name.split('.')[0]) for x in ast.walk(tree) if isinstance(x,(ast.Import,ast.ImportFrom)) and not (getattr(x,'module',None) or 'x').startswith('hepdecorr') for a in x.names}
    inann=set()
    for a in annots:
        for n in ast.walk(a): inann.add((n.lineno,n.col_offset)) if hasattr(n,'lineno') else None
    for n in ast.walk(tree):
        if isinstance(n,ast.Name):
            t=info['names'].get((n.lineno,n.col_offset)) if path not in CHANGED else None
            if t:
                v=new_target(t,n.id)
                if v: put(n.lineno,n.col_offset,n.id,v)
            elif (n.lineno,n.col_offset) not in inann:
                g=resolve_global(n.id)
                # unreachable or class-body code: only report
                if g and SYM.get(g) and g.rpartition('.')[2]==n.id and not edits.get(starts[n.lineno-1]+n.col_offset):
                    if (isinstance(n.ctx,ast.Store) and scope_of.get(id(n)) is None) or path in CHANGED: put(n.lineno,n.col_offset,n.id,new_target(('sym',g),n.id))
                    else: log['name?'].append(f'{path}:{n.lineno}: {n.id}')
        elif isinstance(n,ast.Attribute):
            t=info['members'].get((n.end_lineno,n.end_col_offset))
            if path in CHANGED:
                t=None
                if isinstance(n.value,ast.Name) and modnames.get(n.value.id,'').startswith('MODULE:hepdecorr'):
                    p2=[f for f in files.values() if f['module']==modnames[n.value.id][7:]]
                    g=p2 and p2[0]['modnames'].get(n.attr)
                    if g: t=(n.attr,[('sym',g)])
            at=(n.end_lineno,n.end_col_offset-len(n.attr))
            if t and t[1] is not None:
                vs={new_target(x,n.attr) for x in t[1]}
                if len(vs)>1: log['union'].append(f'{path}:{n.lineno}: {ast.unparse(n)} {vs}')
                vs.discard(None)
                if len(vs)==1: put(*at,n.attr,vs.pop())
            elif n.attr in byname and not edits.get(starts[at[0]-1]+at[1]):
                c=byname[n.attr]
                if len(c)==1 and n.attr not in unrenamed and not (isinstance(n.value,ast.Name) and n.value.id in EXT) and n.attr not in {'code','stack','contents','median','fill','cut','low','high','value','std','mode','norm','sample','samples','mask','where','log','exp','group','groups','events','weight','axes','figure','metrics','logit','scores','arrays','iterate','lines','branches','only','mean','sum','size','run','table','items','keys','values','get','copy','close','open','read','write','fit','title','name','shape','update','add','clip','to','all','any','max','min','index','count','split','join','format','append','extend','pop','sort','counts','unit','save','load','start','stop','label','labels','text','data','content','path'}:
                    put(*at,n.attr,next(iter(c))); log['guessed'].append(f'{path}:{n.lineno}: {ast.unparse(n)[:80]} -> {next(iter(c))}')
                else: log['attr?'].append(f'{path}:{n.lineno}: {ast.unparse(n)[:80]} candidates {sorted(c)}{" or unchanged" if n.attr in unrenamed else ""}')
    b=src
    for o in sorted(edits,reverse=True):
        old,new=edits[o]; b=b[:o]+new.encode()+b[o+len(old):]
    if b!=src: pathlib.Path(path).write_bytes(b)
    return len(edits)
total=0
for path,info in files.items(): total+=process(path,info)
print('edits',total)
unused=[('sym',k) for k in SYM if not used['sym',k]]+[('mem',k) for k in MEM if not used['mem',k]]+[('arg',k) for k in ARG if not used['arg',k]]
print('tables',len(SYM),len(MEM),len(ARG),'unused',len(unused),'problems',len(problems))
with open('tmp/tool/apply.log','w') as f:
    for p in problems: f.write('problem: '+p+'\n')
    for u in unused: f.write(f'unused: {u}\n')
    for k,v in log.items():
        for x in v: f.write(f'{k}: {x}\n')
print({k:len(v) for k,v in log.items()})
