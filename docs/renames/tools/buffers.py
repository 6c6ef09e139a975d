import ast,pathlib,collections
SYM={};MEM=collections.defaultdict(dict)
for f in ('training_core','training_nets','training_losses'):
    for l in open(f'tmp/plan/tables/{f}.tsv'):
        p=l.rstrip('\n').split('\t')
        if p[0]=='sym': SYM[p[1]]=p[2]
        elif p[0]=='mem':
            c,_,a=p[1].rpartition('.'); MEM[c][a]=p[2]
byclass=collections.defaultdict(dict)
for c,d in MEM.items(): byclass[SYM.get(c,c.rsplit('.',1)[-1])].update(d)
for p in pathlib.Path('hepdecorr/training').rglob('*.py'):
    b=p.read_bytes(); tree=ast.parse(b); starts=[0]
    for l in b.split(b'\n'): starts.append(starts[-1]+len(l)+1)
    ed=[]
    for c in ast.walk(tree):
        if isinstance(c,ast.ClassDef):
            for n in ast.walk(c):
                if isinstance(n,ast.Call) and isinstance(n.func,ast.Attribute) and n.func.attr=='register_buffer' and isinstance(n.args[0],ast.Constant):
                    new=byclass.get(c.name,{}).get(n.args[0].value)
                    if new: ed.append((starts[n.args[0].lineno-1]+n.args[0].col_offset+1,n.args[0].value,new)); print(p.name,c.name,n.args[0].value,new)
    for o,a,n in sorted(ed,reverse=True): b=b[:o]+n.encode()+b[o+len(a):]
    if ed: p.write_bytes(b)
