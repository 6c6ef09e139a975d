import subprocess,re,pathlib,collections
out=subprocess.run(['tmp/venv/bin/ruff','check','--output-format','concise','.'],capture_output=True,text=True).stdout
todo=collections.defaultdict(list)
for l in out.split('\n'):
    m=re.match(r'(.*?):(\d+):\d+: E501',l)
    if m: todo[m[1]].append(int(m[2]))
for f,ls in todo.items():
    L=pathlib.Path(f).read_text().split('\n')
    for n in sorted(ls,reverse=True):
        s=L[n-1]; m=re.match(r'^(\s*)((?:message = )?)(r?f?r?)"(.*)"(.?)$',s)
        if not m or m[2]: print('manual',f,n,s.strip()[:120]); continue
        ind,_,pre,body,end=m.groups(); depth=0; best=None
        for i,c in enumerate(body):
            if c=='{' : depth+=1
            elif c=='}': depth-=1
            if c==' ' and depth==0 and len(ind)+len(pre)+i+3<=104: best=i+1
        if best is None: print('manual',f,n); continue
        a,b=body[:best],body[best:]
        pa=pre if '{' in a else pre.replace('f',''); pb=pre if '{' in b else pre.replace('f','')
        L[n-1]=f'{ind}{pa}"{a}"'; L.insert(n,f'{ind}{pb}"{b}"{end}')
    pathlib.Path(f).write_text('\n'.join(L))
