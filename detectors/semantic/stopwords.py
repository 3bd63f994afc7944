"""Words that name nothing by themselves: articles, pronouns, auxiliaries and the like of the exemplars' languages."""

from __future__ import annotations

from typing import Final

STOP_WORDS: Final = frozenset("""
    a about above after again against all along already also although always am
    among an and another any anyone anything are
    around as at away back be because been before being below between both but
    by can can't cannot come could did didn't do
    does doesn't doing don't done down during each either else enough etc even
    ever every everyone everything few first for
    from get gets give given gives go goes going gone got had has have having
    he he's her here here's hers herself him himself
    his how i i'd i'll i'm i've if in into is isn't it it's its itself just
    keep kept last least less let let's like made make
    makes many may maybe me might mine more most much must my myself near need
    needs neither never next no nobody none nor not
    nothing now of off often on once one only onto or other others our ours
    ourselves out over own per perhaps please put puts
    quite rather really said same say says see several shall she should since
    so some somebody someone something soon still
    such sure take takes tell tells than that that's the their theirs them
    themselves then there there's these they they're
    thing things this those though three through thus till to together told too
    toward two under until up upon us use used
    uses using very via want wants was wasn't way ways we we'll we're we've
    well went were what what's whatever when where
    whether which while who who's whole whom whose why will with within without
    won't would yes yet you you'd you'll you're
    you've your yours yourself http https www com org net html
    aber alle allem allen als also am auf aus bei bin bis bitte da damit dann
    das dass dein dem den der des die dir doch du
    durch ein eine einem einen einer eines er es für hat ich ihr im ist ja jede
    jeder kann kein keine man mehr mein meine mich
    mir mit nach nicht noch nun nur ob oder ohne sein sich sie sind so über um
    und uns unter vom von vor was wenn wer werden
    wie wir wird wo zu zum zur
    al algo ante aquí así aunque como cómo con cual cuál cuando cuándo dame de
    del desde donde dónde el ella en entre era es
    esa ese eso esta está este esto hay la las lo los más me mi mis muy nada ni
    no nos o para pero por porque qué que quién se
    según ser si sí sin sobre solo son su sus también te tu tus un una uno unos y ya
    au aucun aussi aux avec ce ces cela cette chaque comme comment dans des
    donc du elle en est et être il ils je leur les lui
    ma mais même mes moi mon ne nos notre nous on ont ou où par pas plus pour
    pourquoi qu que quel quelle qui quoi sa sans ses
    son sont sous sur ta tes toi ton tous tout toute très tu une vos votre vous
    agli alla alle anche che chi ci come con cosa così cui dai dal dalla degli
    dei del della delle di dove e è ed era fra gli
    ha ho il io la le lei lo loro lui ma mi mia mio ne nei nel nella non o ogni
    per perché più poi quale quando quello questa
    questo se sei senza si sia solo sono sta su sua sul sulla suo tra tu tua tuo tutti tutto un una uno
    ao aos às até com da das depois do dos e ela ele em entre era essa esse
    esta está este eu foi isso isto já lhe mais mas me
    meu minha muito na não nas nem no nos num numa o os ou para pela pelo por
    porque qual quando que quem se sem ser seu seus
    só sobre sua também te tem todo todos tu tua um uma você
    aan al alle alleen als ben bij dan dat de deze die dit doe door dus een en
    er geen haar heb heeft het hier hij hoe ik in is
    je jij kan maar me meer met mij mijn na naar niet niets nog nu of om onder
    ons ook op over te tot tussen uit uw van veel
    voor waar wat we wel wie wij wil zal ze zich zij zijn zo zonder
    alla allt att av bara bli blir de dem den denna det detta dig din du efter
    ej en ett för från få ha han har hon hur här i
    icke inga ingen ingenting inte jag kan med mellan men mig min mitt mot
    mycket ni nu när och om på sin sig ska skall som så
    till under upp ut utan vad var vi vid vilken är över
    aby ale bez bo być by był była ci co czy dla do gdy gdzie go i ich im ja
    jak jaki jako jego jej jest już każdy kiedy kto
    która które który lub ma mi mnie moje może na nad nam nas nic nie nim niż
    od on ona oni po pod przed przez przy są się
    tak tam te tego tej ten to tu tylko ty tym u w wszystko z za że
    ama ancak artık bana bazı ben beni bir biri biz bu bunu çok da daha de
    değil diye en gibi hem her hiç için ile ise kadar
    ki kim mi mu nasıl ne neden nerede o olan olarak olur onu sadece sana sen
    senin şey şu tüm üzerinde var ve veya ya yok
    ada adalah agar akan aku anda apa atau bagaimana bagi bahwa banyak belum
    bisa dalam dan dapat dari dengan di hanya harus
    ini itu jangan jika juga kami kamu karena ke kepada kita lagi lebih mana
    mereka oleh pada saja sama sangat satu saya sebagai
    semua sudah tanpa tapi telah tentang tidak untuk yang
    bạn bằng bị bởi các cái cho chỉ chúng có con của cùng cũng đã đang để đến
    đi điều được đó gì hãy hơn khi không là làm lại
    lên mà mọi một này nào nên nếu như nhưng những nó ở ra rất rồi sẽ sau tất
    tôi từ trên trong trước và vào vẫn về vì với
    без более бы был была были было быть в вам вас весь во вот все всё всех вы
    где да для до его ее если есть еще ещё же за и
    из или им их к как какой когда кто ли мне мной мой моя мы на над не нет ни
    но о об он она они от по под при про с сам со
    так также там те тебе тем то того тоже только тот ты у уже чего чем что чтобы эта это этот я
    أن إلى أو إن بعد بل به التي الذي ثم حتى ذلك على عن عند في فقط قبل قد كان كل
    كما كيف لا لم لن له ما مع من منذ هذا هذه هل هنا هو هي
    और अपना अपनी अपने अब इस इसे उस एक ऐसे कर करें करो का कि किसी की कुछ के कैसे
    को कोई क्या जो तक तो था थी दो नहीं ने पर फिर भी मुझे में मेरा मेरी मैं यह या ये वह
    से हर ही हूँ है हैं हो
    그 그것 그리고 나 나는 내 너 너는 는 다 더 때 를 만 모든 무엇 및 수 어떻게 에 에서 왜 은 을 의 이 이것 저 좀 하나 한
""".split())  # fmt: skip
"""Folded to lower case. In our own words, by what the exemplars of each language say most."""
