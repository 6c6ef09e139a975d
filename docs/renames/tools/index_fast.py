"""Build an index of symbol occurrences of the package in the current directory: tmp/tool/index.pkl."""
import ast, pickle, sys, time, pathlib
from mypy import build
from mypy.main import process_options
from mypy.fscache import FileSystemCache
from mypy.nodes import *
from mypy.types import *

ROOTS=sys.argv[2:] or ['hepdecorr','processors','benchmarks','tests','noxfile.py']
out=sys.argv[1]
sources, options = process_options(['--no-incremental','--check-untyped-defs','--config-file','tmp/tool/fast.ini']+ROOTS, fscache=FileSystemCache())
options.preserve_asts=True; options.export_types=True; options.incremental=False; options.cache_dir='/dev/null'
t0=time.time()
res=build.build(sources, options)
print('build',time.time()-t0)
def mine(mod): return mod.split('.')[0] in ('hepdecorr','processors','benchmarks','tests','noxfile')
classes={}   # fullname -> (mro fullnames, names)
def module_of(info): return info.module_name
def note_class(info):
    if info.fullname in classes: return
    classes[info.fullname]=([b.fullname for b in info.mro], set(info.names))
def infos(t):
    t=get_proper_type(t)
    if isinstance(t,Instance): return [t.type]
    if isinstance(t,TupleType): return [t.partial_fallback.type]
    if isinstance(t,TypeType): return infos(t.item)
    if isinstance(t,CallableType):
        if t.is_type_obj():
            try: return [t.type_object()]
            except Exception: return []
        return []
    if isinstance(t,Overloaded): return infos(t.items[0])
    if isinstance(t,UnionType):
        r=[]
        for i in t.items: r+=infos(i)
        return r
    if isinstance(t,TypeVarType): return infos(t.upper_bound)
    if isinstance(t,LiteralType): return infos(t.fallback)
    return []
def definer(info,name):
    """Topmost class of ours that defines name."""
    found=None
    for b in info.mro:
        if name in b.names and mine(b.module_name): found=b.fullname
    return found
def has(info,name): return any(name in b.names for b in info.mro)
occ={}  # path -> list of (kind,key,...)
SKIP={'node','info','definition','original_def','original_type','type','unanalyzed_type','fullname','names','mro','defn','partial_fallback','type_annotation','func_type','from_','analyzed_type','special_alias','metadata','variable','expanded','imports','_fullname','is_special_form_any','final_value','metaclass_type','alias_tvars'}
import types as _t
_attrs={}
def attrs(o):
    c=type(o)
    if c not in _attrs: _attrs[c]=[a for a in dir(c) if not a.startswith('__') and a not in SKIP and type(getattr(c,a,None)).__name__ in ('getset_descriptor','member_descriptor')]
    return _attrs[c]
class V:
    def walk(s,o):
        if isinstance(o,(list,tuple)):
            for x in o: s.walk(x)
            return
        if isinstance(o,dict):
            for x in o.values(): s.walk(x)
            return
        if not isinstance(o,Node) or isinstance(o,(TypeInfo,Var,MypyFile,SymbolTable)) : return
        if id(o) in s.visited: return
        s.visited.add(id(o))
        if isinstance(o,FuncDef): s.visit_func_def(o)
        elif isinstance(o,NameExpr): s.visit_name_expr(o)
        elif isinstance(o,MemberExpr): s.visit_member_expr(o)
        elif isinstance(o,SuperExpr): s.visit_super_expr(o)
        elif isinstance(o,CallExpr): s.visit_call_expr(o)
        for a in attrs(o):
            try: v=getattr(o,a)
            except Exception: continue
            s.walk(v)
    def __init__(s,tree):
        s.visited=set(); s.tree=tree; s.members={}; s.names={}; s.calls={}; s.argvars={}
    def visit_func_def(s,o):
        full=o.fullname
        if o.info: full=f'{o.info.fullname}.{o.name}'
        for a in o.arguments: s.argvars[id(a.variable)]=(full,a.variable.name, bool(o.info))
    def visit_name_expr(s,o):
        n=o.node
        if n is None: return
        key=(o.line,o.column)
        if isinstance(n,Var) and id(n) in s.argvars:
            f,a,m=s.argvars[id(n)]; s.names[key]=('arg',f,a)
        elif isinstance(n,Var) and n.info and o.kind==MDEF:
            d=definer(n.info,n.name)
            if d: s.names[key]=('mem',d,n.name)
        elif isinstance(n,(TypeInfo,FuncDef,Decorator,OverloadedFuncDef,Var,TypeAlias,TypeVarExpr)) :
            full=n.fullname
            if full and mine(full): 
                # method names in class body?
                info=getattr(n,'info',None)
                if info and info.fullname and o.kind==MDEF:
                    d=definer(info,n.name)
                    if d: s.names[key]=('mem',d,n.name)
                else: s.names[key]=('sym',full)
        elif isinstance(n,MypyFile) and mine(n.fullname): s.names[key]=('mod',n.fullname)
    def visit_member_expr(s,o):
        key=(o.end_line,o.end_column)
        n=o.node
        if isinstance(n,MypyFile):
            s.members[key]=(o.name,[('mod',n.fullname)]); return
        if n is not None and getattr(n,'fullname',None) and isinstance(o.expr,RefExpr) and isinstance(o.expr.node,MypyFile):
            s.members[key]=(o.name,[('sym',n.fullname)] if mine(n.fullname) else []); return
        t=res.types.get(o.expr)
        if t is None and isinstance(o.expr,RefExpr) and isinstance(o.expr.node,TypeInfo): ii=[o.expr.node]
        elif t is None: s.members[key]=(o.name,None); return
        else: ii=infos(t)
        pt=get_proper_type(t) if t is not None else None
        r=[]
        for i in ii:
            d=definer(i,o.name)
            if d: r.append(('mem',d,o.name))
        unresolved = not ii and (pt is None or isinstance(pt,AnyType)) or (ii and not r and not any(has(i,o.name) for i in ii))
        s.members[key]=(o.name, None if unresolved else r)
    def visit_super_expr(s,o):
        r=[]
        if o.info:
            for b in o.info.mro[1:]:
                if o.name in b.names:
                    if mine(b.module_name):
                        d=definer(b,o.name); r=[('mem',d,o.name)]
                    break
        s.members[(o.end_line,o.end_column)]=(o.name,r)
    def target(s,c):
        """callee -> list of ('fields',class) or ('func',fullname)"""
        if isinstance(c,SuperExpr):
            if c.info:
                for b in c.info.mro[1:]:
                    if c.name in b.names:
                        return [('func',f'{b.fullname}.{c.name}')] if mine(b.module_name) else []
            return []
        if isinstance(c,RefExpr):
            n=c.node
            if isinstance(n,TypeInfo): return s.ctor(n)
            if isinstance(n,(FuncDef,OverloadedFuncDef,Decorator)) and not getattr(n,'info',None):
                if mine(n.fullname): return [('func',n.fullname)]
                return [('lib',n.fullname)]
            if isinstance(n,TypeAlias):
                return [x for i in infos(n.target) for x in s.ctor(i)]
        if isinstance(c,IndexExpr): return s.target(c.base)
        if isinstance(c,MemberExpr):
            t=res.types.get(c.expr); r=[]
            if t is not None:
                for i in infos(t):
                    for b in i.mro:
                        if c.name in b.names:
                            if mine(b.module_name): r.append(('func',f'{b.fullname}.{c.name}'))
                            break
                    if c.name=='_replace' : r.append(('fields',i.fullname)); note_class(i)
                if r: return r
        t=res.types.get(c)
        if t is not None:
            pt=get_proper_type(t)
            if isinstance(pt,(CallableType,Overloaded)):
                it=pt if isinstance(pt,CallableType) else pt.items[0]
                if it.is_type_obj():
                    try: return s.ctor(it.type_object())
                    except Exception: pass
                d=it.definition
                if d is not None and isinstance(d,FuncDef):
                    full=f'{d.info.fullname}.{d.name}' if d.info else d.fullname
                    return [('func',full)] if mine(full) else []
            if isinstance(pt,Instance):
                for b in pt.type.mro:
                    if '__call__' in b.names: return [('func',f'{b.fullname}.__call__')] if mine(b.module_name) else []
        return [] if t is not None and not isinstance(get_proper_type(t),AnyType) else [('any',)]
    def ctor(s,n):
        note_class(n)
        for b in n.mro:
            if '__init__' in b.names or '__new__' in b.names:
                if 'dataclass' in b.metadata or 'dataclass_tag' in b.metadata or b.is_named_tuple or any(x.fullname=='pydantic.main.BaseModel' for x in n.mro): return [('fields',n.fullname)]
                nm='__init__' if '__init__' in b.names else '__new__'
                sym=b.names[nm].node
                if isinstance(sym,FuncDef) and sym.line==-1 or (nm=='__new__' and n.is_named_tuple): return [('fields',n.fullname)]
                return [('func',f'{b.fullname}.{nm}')] if mine(b.module_name) else ([('fields',n.fullname)] if any('dataclass' in x.metadata for x in n.mro) else [])
        return [('fields',n.fullname)]
    def visit_call_expr(s,o):
        if any(a for a in o.arg_names) or any(k==ARG_STAR2 for k in o.arg_kinds):
            t=s.target(o.callee)
            if t==[('lib','dataclasses.replace')] and o.args:
                ty=res.types.get(o.args[0]); t=[('fields',i.fullname) for i in (infos(ty) if ty is not None else [])]
            s.calls[(o.line,o.column,o.end_line,o.end_column)]=t
data={}
for mod,tree in res.files.items():
    if not mine(mod) or not tree.path.endswith('.py'): continue
    v=V(tree)
    v.walk(tree.defs)
    names={}
    for k,n in tree.names.items():
        if n.node is not None and getattr(n.node,'fullname',None): names[k]=n.node.fullname if not isinstance(n.node,MypyFile) else 'MODULE:'+n.node.fullname
    data[tree.path]=dict(module=mod,members=v.members,names=v.names,calls=v.calls,modnames=names)
    def walk(tab):
        for k,n in tab.items():
            if isinstance(n.node,TypeInfo) and mine(n.node.module_name):
                if n.node.fullname not in classes:
                    note_class(n.node); walk(n.node.names)
    walk(tree.names)
pickle.dump(dict(files=data,classes=classes),open(out,'wb'))
print('done',time.time()-t0,len(data),len(classes))
