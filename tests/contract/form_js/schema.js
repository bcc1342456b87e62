window.schema = {type:"default", id:"f", schemaVersion:18, components:[
 {type:"textfield",key:"creditor",label:"Creditor",validate:{required:true}},
 {type:"textarea",key:"note",label:"Note"}, {type:"number",key:"amount",label:"Amount"},
 {type:"radio",key:"to",label:"Refund to",values:[{label:"Card",value:"card"},{label:"Bank",value:"bank"}]},
 {type:"checkbox",key:"ok",label:"Approved"}, {type:"checklist",key:"mails",label:"Mail to",values:[{label:"Ann",value:"ann"},{label:"Bob",value:"bob"}]},
 {type:"select",key:"lang",label:"Language",values:[{label:"English",value:"en"},{label:"German",value:"de"}]},
 {type:"select",key:"city",label:"City",searchable:true,values:[{label:"Wien",value:"w"},{label:"Graz",value:"g"}]},
 {type:"taglist",key:"tags",label:"Tags",values:[{label:"vip",value:"vip"},{label:"late",value:"late"}]},
 {type:"datetime",key:"due",subtype:"datetime",dateLabel:"Due date",timeLabel:"Due time",timeSerializingFormat:"utc_normalized",timeInterval:15,use24h:true},
 {type:"textfield",key:"ro",label:"Read only",readonly:true}, {type:"textfield",key:"dis",label:"Disabled",disabled:true},
 {type:"text",text:"# Heading\nSome **text**"}, {type:"group",label:"Group",components:[{type:"textfield",key:"ing",label:"In group"}]},
 {type:"textfield",key:"hid",label:"Hidden",conditional:{hide:"=true"}},
 {type:"dynamiclist",path:"rows",label:"Rows",defaultRepetitions:2,allowAddRemove:true,isRepeating:true,components:[{type:"textfield",key:"x",label:"Row field"}]},
 {type:"table",label:"Orders",dataSource:"=orders",rowCount:5,columns:[{label:"Id",key:"id"},{label:"State",key:"state"}],id:"t1"},
 {type:"button",label:"Submit",action:"submit",key:"b"},{type:"button",label:"Reset",action:"reset",key:"b2"}]};
window.data = {creditor:"Ann Example", note:"Dear\nAnn", amount:12, to:"card", ok:true, mails:["bob"], lang:"de", city:"w", tags:["vip"], due:"2026-11-29T10:30Z", ro:"fixed", dis:"off", orders:[{id:1,state:"open"},{id:2,state:"closed"}]};
