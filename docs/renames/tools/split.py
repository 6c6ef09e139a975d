"""split.py SRC DST 'docstring' name1 name2 ... : move top-level definitions to a new module and fix importers"""
import ast,sys,pathlib,re
src,dst,doc,*names=sys.argv[1:]
S,D=pathlib.Path(src),pathlib.Path(dst)
def mod(p): return '.'.join(p.with_suffix('').parts).removesuffix('.__init__')
t=S.read_text(); tree=ast.parse(t); ls=t.split('\n')
chunks=[];rm=set()
for n in tree.body:
    nm=getattr(n,'name',None) or (n.targets[0].id if isinstance(n,ast.Assign) and isinstance(n.targets[0],ast.Name) else None) or (n.target.id if isinstance(n,ast.AnnAssign) else None)
    if nm in names:
        a=min([n.lineno]+[d.lineno for d in getattr(n,'decorator_list',[])])
        while a>1 and ls[a-2].startswith('#'): a-=1
        chunks.append('\n'.join(ls[a-1:n.end_lineno])); rm|=set(range(a,n.end_lineno+1))
imports=[n for n in tree.body if isinstance(n,(ast.Import,ast.ImportFrom))]
imp='\n'.join('\n'.join(ls[n.lineno-1:n.end_lineno]) for n in imports)
body='\n\n\n'.join(chunks)
if D.exists():
    dt=D.read_text(); dtree=ast.parse(dt); last=max(n.end_lineno for n in dtree.body if isinstance(n,(ast.Import,ast.ImportFrom)))
    dl=dt.split('\n'); imp2=imp.replace('from __future__ import annotations','')
    D.write_text('\n'.join(dl[:last])+'\n'+imp2+'\n'+'\n'.join(dl[last:]).rstrip()+'\n\n\n'+body+'\n')
else: D.write_text(f'"""{doc}"""\n\n{imp}\n\n\n{body}\n')
rest='\n'.join(l for i,l in enumerate(ls,1) if i not in rm)
used=[x for x in names if re.search(rf'(?<![\w.]){x}\b',rest)]
if used:
    lines=rest.split('\n'); k=max(i for i,l in enumerate(lines) if re.match(r'^(from|import) ',l) and '(' not in l)
    lines.insert(k+1,f'from {mod(D)} import {", ".join(used)}'); rest='\n'.join(lines)
S.write_text(rest)
for p in [q for r in ('hepdecorr','tests','processors','benchmarks') for q in pathlib.Path(r).rglob('*.py') if q!=S]:
    t=p.read_text()
    def f(m):
        items=[x.strip() for x in m[3].strip('()\n ').replace('\n',' ').split(',') if x.strip()]
        mv=[x for x in items if x.split(' as ')[0].strip() in names]; st=[x for x in items if x not in mv]
        out=[]
        if st: out.append(f'{m[1]}from {mod(S)} import '+(f'({", ".join(st)})'))
        if mv and p!=D: out.append(f'{m[1]}from {mod(D)} import '+(f'({", ".join(mv)})'))
        return '\n'.join(out)
    n=re.sub(rf'^([ ]*)from ({re.escape(mod(S))}) import (\([^)]*\)|[^\n(]+)',f,t,flags=re.M)
    if n!=t: p.write_text(n)
